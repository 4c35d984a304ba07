/**
 * Analysis that fits the basis a reader sees. Rounding bends the rows, so the eigenvectors' own latents no longer are
 * the best; the latents y of a row z that make |(z - y S) M^½|^2 least are z M^½ W' (W W')^-1 with W = S M^½, where S
 * are the rounded rows. Rounding errors inside the span of the kept rows then cost nothing.
 */
import { ConvergenceError } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";

/**
 * (dim, channels) f32 for `project`. rows (channels, dim) f32, as the reader sees them; roots: M^½ a head,
 * (dim / roots, dim / roots) f64 symmetric, or undefined for M = I.
 */
export function fitAnalysis(
  runtime: Runtime,
  rows: Float32Array,
  dim: number,
  roots: Float64Array[] | undefined,
): Float32Array {
  const { kernels, heap } = runtime;
  const channels = rows.length / dim;
  const wide = 8 * channels * dim;
  return heap.scratch((frame) => {
    const [whitePtr, transposedPtr, gramPtr] = [wide, wide, 8 * channels * channels].map((n) => frame.reserve(n));
    heap.f64(whitePtr, channels * dim).set(rows);
    if (roots) multiplyBlocks(runtime, whitePtr, channels, dim, roots);
    kernels.transpose(transposedPtr, whitePtr, channels, dim);
    kernels.multiply(gramPtr, whitePtr, transposedPtr, channels, dim, channels);
    const inversePtr = frame.reserve(8 * channels * channels);
    heap.f64(inversePtr, channels * channels).set(inverseFactor(heap.f64(gramPtr, channels * channels), channels));
    // (W W')^-1 = L^-T L^-1.
    const factorPtr = frame.reserve(8 * channels * channels);
    kernels.transpose(factorPtr, inversePtr, channels, channels);
    kernels.multiply(gramPtr, factorPtr, inversePtr, channels, channels, channels);
    kernels.multiply(transposedPtr, gramPtr, whitePtr, channels, channels, dim);
    heap.f64(whitePtr, channels * dim).set(heap.f64(transposedPtr, channels * dim));
    if (roots) multiplyBlocks(runtime, whitePtr, channels, dim, roots);
    kernels.transpose(transposedPtr, whitePtr, channels, dim);
    return Float32Array.from(heap.f64(transposedPtr, channels * dim));
  });
}

/** matrix (rows, dim) f64 at matrixPtr times a block diagonal of square blocks, in place. */
export function multiplyBlocks(
  runtime: Runtime,
  matrixPtr: number,
  rows: number,
  dim: number,
  blocks: Float64Array[],
): void {
  const { kernels, heap } = runtime;
  const size = dim / blocks.length;
  heap.scratch((frame) => {
    const [inPtr, outPtr] = [frame.reserve(8 * rows * size), frame.reserve(8 * rows * size)];
    const blockPtr = frame.reserve(8 * size * size);
    const matrix = heap.f64(matrixPtr, rows * dim);
    const [part, product] = [heap.f64(inPtr, rows * size), heap.f64(outPtr, rows * size)];
    blocks.forEach((block, index) => {
      const column = index * size;
      for (let i = 0; i < rows; i++) part.set(matrix.subarray(i * dim + column, i * dim + column + size), i * size);
      heap.f64(blockPtr, size * size).set(block);
      kernels.multiply(outPtr, inPtr, blockPtr, rows, size, size);
      for (let i = 0; i < rows; i++) matrix.set(product.subarray(i * size, (i + 1) * size), i * dim + column);
    });
  });
}

/** L^-1 (n, n), lower, of the Cholesky factor L of gram. */
function inverseFactor(gram: Float64Array, n: number): Float64Array {
  const lower = gram.slice();
  factor(lower, n);
  const inverse = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const row = inverse.subarray(i * n, i * n + i);
    for (let k = 0; k < i; k++) {
      const l = lower[i * n + k];
      for (let j = 0; j <= k; j++) row[j] -= l * inverse[k * n + j];
    }
    const diagonal = lower[i * n + i];
    for (let j = 0; j < i; j++) row[j] /= diagonal;
    inverse[i * n + i] = 1 / diagonal;
  }
  return inverse;
}

/** Lower Cholesky factor in place; rows that rounding made dependent get a tiny ridge. */
function factor(a: Float64Array, n: number): void {
  let trace = 0;
  for (let i = 0; i < n; i++) trace += a[i * (n + 1)];
  const least = (1e-9 * trace) / n;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j];
      for (let k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
      if (i === j) a[i * n + i] = Math.sqrt(Math.max(sum, least));
      else a[i * n + j] = sum / a[j * n + j];
    }
    if (!Number.isFinite(a[i * n + i]))
      throw new ConvergenceError(`basis rows: expected finite numbers, got ${a[i * n + i]}`);
  }
}
