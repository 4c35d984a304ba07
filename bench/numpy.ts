/** numpy as a peer: runs a Python snippet on one thread and reads the milliseconds that it prints; undefined without numpy. */
import { spawnSync } from "node:child_process";

const PREAMBLE = `
import numpy as np, sys, time
def best(f, n=15):
    f()
    b = 1e9
    for _ in range(n):
        s = time.perf_counter(); f(); b = min(b, time.perf_counter() - s)
    return b * 1e3
`;

export interface NumpyTime {
  milliseconds: number;
  peer: string;
}

/** The snippet calls `print(best(lambda: …))` last. */
export function numpyTime(snippet: string): NumpyTime | undefined {
  const { OPENBLAS_CORETYPE: _core, OPENBLAS_L2_SIZE: _l2, ...env } = process.env;
  const run = spawnSync("python3", ["-c", `${PREAMBLE}\nprint(np.__version__)\n${snippet}`], {
    env: { ...env, OPENBLAS_NUM_THREADS: "1", OMP_NUM_THREADS: "1" },
    encoding: "utf8",
  });
  if (run.status !== 0) return undefined;
  const [version, time] = run.stdout.trim().split("\n");
  return { milliseconds: Number(time), peer: `numpy ${version}, OpenBLAS, 1 thread` };
}
