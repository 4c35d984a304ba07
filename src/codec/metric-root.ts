/** Square roots of a metric, both ways: rows are whitened by one and given back by the other. */
import { ConvergenceError } from "../errors.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { eigenScratchBytes } from "./layout.ts";

/** Eigenvalues of M below this part of their mean are raised to it. */
const EIGENVALUE_FLOOR = 1e-3;

/** M^½ and M^-½ of one kv head: (headDim, headDim) f64, symmetric. */
export interface MetricRoot {
  root: Float64Array;
  inverse: Float64Array;
}

/** Of M (n, n) f64, symmetric, which is destroyed; no eigenvalue counts as less than `least`. */
export function squareRoot(
  runtime: Runtime,
  frame: Frame,
  momentPtr: number,
  n: number,
  least = Number.MIN_VALUE,
): MetricRoot {
  const { kernels, heap } = runtime;
  const [valuesPtr, scratchPtr] = [frame.reserve(8 * n), frame.reserve(eigenScratchBytes(n))];
  const [vectorsPtr, transposedPtr, scaledPtr, outPtr] = [0, 0, 0, 0].map(() => frame.reserve(8 * n * n));
  const sweeps = kernels.eigen(valuesPtr, vectorsPtr, momentPtr, scratchPtr, n);
  if (sweeps < 0) throw new ConvergenceError(`eigenvectors of a metric: status ${sweeps}`);
  kernels.transpose(transposedPtr, vectorsPtr, n, n);
  const values = heap.f64(valuesPtr, n).slice();
  const mean = values.reduce((a, b) => a + b, 0) / n;
  const floor = Math.max(EIGENVALUE_FLOOR * mean, least, Number.MIN_VALUE);
  const power = (scaleOf: (value: number) => number): Float64Array => {
    const vectors = heap.f64(vectorsPtr, n * n);
    const scaled = heap.f64(scaledPtr, n * n);
    for (let row = 0, i = 0; row < n; row++) {
      const scale = scaleOf(Math.max(values[row], floor));
      for (const end = i + n; i < end; i++) scaled[i] = vectors[i] * scale;
    }
    kernels.multiply(outPtr, transposedPtr, scaledPtr, n, n, n);
    return heap.f64(outPtr, n * n).slice();
  };
  return { root: power(Math.sqrt), inverse: power((value) => 1 / Math.sqrt(value)) };
}
