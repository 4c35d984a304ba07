/** Eigenvectors of a second moment against numpy.linalg.eigh, ml-matrix and the twin. */
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { eigenScratchBytes, momentScratchBytes } from "../src/codec/layout.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { type BenchRow, measure, row } from "./harness.ts";
import { numpyTime } from "./numpy.ts";

const N = 192;

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const matrix = fallingMoment(runtime, 4 * N, N);
  const ours = eigen(runtime, matrix, N, 500);
  const rows = [
    row(
      "eigen",
      `eigen ${N} x ${N}`,
      ours.milliseconds,
      "TypeScript twin",
      eigen(reference, matrix, N, 0).milliseconds,
    ),
  ];
  const numpy = numpyTime(
    `x = np.random.default_rng(0).standard_normal((${4 * N}, ${N})) * 0.97 ** np.arange(${N})\nm = x.T @ x\nprint(best(lambda: np.linalg.eigh(m), 40))`,
  );
  if (numpy)
    rows.push(row("eigen", `eigen ${N} x ${N}`, ours.milliseconds, `${numpy.peer}, linalg.eigh`, numpy.milliseconds));
  const peerMatrix = Matrix.from1DArray(N, N, Array.from(matrix));
  const peer = measure(() => new EigenvalueDecomposition(peerMatrix, { assumeSymmetric: true }), 0);
  rows.push(row("eigen", `eigen ${N} x ${N}`, ours.milliseconds, "ml-matrix 6.15.1", peer));
  return rows;
}

/** Second moment of rows whose spectrum falls by 3 % a channel. */
export function fallingMoment({ kernels, heap }: Runtime, tokens: number, dim: number, fall = 0.97): Float64Array {
  return heap.scratch((frame) => {
    const rowsPtr = frame.reserve(4 * tokens * dim);
    const [momentPtr, scratchPtr] = [frame.reserve(8 * dim * dim), frame.reserve(momentScratchBytes(dim))];
    const x = noise(tokens * dim);
    heap.f32(rowsPtr, tokens * dim).set(x.map((value, i) => value * fall ** (i % dim)));
    kernels.secondMoment(momentPtr, rowsPtr, 0, 0, scratchPtr, tokens, dim);
    return heap.f64(momentPtr, dim * dim).slice();
  });
}

export function eigen({ kernels, heap }: Runtime, matrix: Float64Array, n: number, minMilliseconds: number) {
  return heap.scratch((frame) => {
    const [matrixPtr, vectorsPtr] = [frame.reserve(8 * n * n), frame.reserve(8 * n * n)];
    const [valuesPtr, scratchPtr] = [frame.reserve(8 * n), frame.reserve(eigenScratchBytes(n))];
    heap.f64(matrixPtr, n * n).set(matrix);
    const milliseconds = measure(() => kernels.eigen(valuesPtr, vectorsPtr, matrixPtr, scratchPtr, n), minMilliseconds);
    return { milliseconds, values: heap.f64(valuesPtr, n).slice() };
  });
}
