/** Small f64 products against the twin and ml-matrix. */
import { Matrix } from "ml-matrix";
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { type BenchRow, measure, row } from "./harness.ts";

const N = 192;

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const ours = time(runtime);
  const a = Matrix.from1DArray(N, N, Array.from(noise(N * N)));
  return [
    row("matrix", `multiply ${N} x ${N} x ${N}`, ours, "TypeScript twin", time(reference)),
    row(
      "matrix",
      `multiply ${N} x ${N} x ${N}`,
      ours,
      "ml-matrix 6.15.1",
      measure(() => a.mmul(a)),
    ),
  ];
}

function time({ kernels, heap }: Runtime): number {
  return heap.scratch((frame) => {
    const [aPtr, outPtr] = [frame.reserve(8 * N * N), frame.reserve(8 * N * N)];
    heap.f64(aPtr, N * N).set(noise(N * N));
    return measure(() => kernels.multiply(outPtr, aPtr, aPtr, N, N, N));
  });
}
