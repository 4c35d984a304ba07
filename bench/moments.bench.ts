/** Second moment against numpy's f64 product (same precision of sums) and f32 product, and the twin. */
import { momentScratchBytes } from "../src/codec/layout.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { type BenchRow, measure, row } from "./harness.ts";
import { numpyTime } from "./numpy.ts";

const ROWS = 8192;
const DIM = 192;

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  const ours = secondMoment(runtime, ROWS);
  for (const type of ["float64", "float32"]) {
    const numpy = numpyTime(
      `x = np.random.default_rng(0).standard_normal((${ROWS}, ${DIM})).astype(np.${type})\nprint(best(lambda: x.T @ x))`,
    );
    if (numpy)
      rows.push(row("moments", `second moment ${ROWS} x ${DIM}`, ours, `${numpy.peer}, ${type}`, numpy.milliseconds));
  }
  rows.push(
    row(
      "moments",
      `second moment 512 x ${DIM}`,
      secondMoment(runtime, 512),
      "TypeScript twin",
      secondMoment(reference, 512),
    ),
  );
  return rows;
}

function secondMoment({ kernels, heap }: Runtime, rowCount: number): number {
  return heap.scratch((frame) => {
    const rowsPtr = frame.reserve(4 * rowCount * DIM);
    const [momentPtr, scratchPtr] = [frame.reserve(8 * DIM * DIM), frame.reserve(momentScratchBytes(DIM))];
    heap.f32(rowsPtr, rowCount * DIM).set(noise(rowCount * DIM));
    return measure(() => kernels.secondMoment(momentPtr, rowsPtr, 0, 0, scratchPtr, rowCount, DIM));
  });
}
