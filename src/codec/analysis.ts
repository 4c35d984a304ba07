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
    return new Float32Array(heap.f64(transposedPtr, channels * dim));
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
  const { upper, diagonals } = factor(gram, n);
  const inverse = new Float64Array(n * n);
  const [row, factors] = [new Float64Array(n), new Float64Array(n)];
  for (let i = 0; i < n; i++) {
    row.fill(0);
    for (let k = 0; k < i; k++) factors[k] = upper[k * n + i];
    for (let k = 0; k < i; k += ROWS) {
      const end = Math.min(i, k + ROWS);
      // Rows of the inverse are zero behind their diagonals.
      subtractRows(row, factors, inverse, n, k, end, 0, end);
    }
    for (let j = 0; j < i; j++) inverse[i * n + j] = row[j] / diagonals[i];
    inverse[i * n + i] = 1 / diagonals[i];
  }
  return inverse;
}

/** The Cholesky factor: its transpose without the diagonal, and the diagonal. Dependent rows get a tiny ridge. */
function factor(gram: Float64Array, n: number): { upper: Float64Array; diagonals: Float64Array } {
  let trace = 0;
  for (let i = 0; i < n; i++) trace += gram[i * (n + 1)];
  const least = (1e-9 * trace) / n;
  const upper = new Float64Array(n * n);
  const [diagonals, row, factors] = [new Float64Array(n), new Float64Array(n), new Float64Array(n)];
  for (let i = 0; i < n; i++) {
    row.set(gram.subarray(i * n, i * n + i + 1));
    for (let k = 0; k < i; k += ROWS) {
      const end = Math.min(i, k + ROWS);
      for (let j = k; j < end; j++) {
        for (let b = k; b < j; b++) row[j] -= factors[b] * upper[b * n + j];
        factors[j] = row[j] / diagonals[j];
        upper[j * n + i] = factors[j];
      }
      subtractRows(row, factors, upper, n, k, end, end, i + 1);
    }
    diagonals[i] = Math.sqrt(Math.max(row[i], least));
    if (!Number.isFinite(diagonals[i]))
      throw new ConvergenceError(`basis rows: expected finite numbers, got ${diagonals[i]}`);
  }
  return { upper, diagonals };
}

/** Rows that are subtracted in one pass: fewer loads and stores, the same order of every sum. */
const ROWS = 4;

/** row[j] -= factors[k] * matrix[k][j] for rows `k` to `end` - 1 of a matrix of n columns, j from … to - 1. */
function subtractRows(
  row: Float64Array,
  factors: Float64Array,
  matrix: Float64Array,
  n: number,
  k: number,
  end: number,
  from: number,
  to: number,
): void {
  if (end - k < ROWS) {
    for (; k < end; k++) for (let j = from; j < to; j++) row[j] -= factors[k] * matrix[k * n + j];
    return;
  }
  const [a, b, c, d] = [k * n, (k + 1) * n, (k + 2) * n, (k + 3) * n];
  const [fa, fb, fc, fd] = [factors[k], factors[k + 1], factors[k + 2], factors[k + 3]];
  for (let j = from; j < to; j++) {
    row[j] = row[j] - fa * matrix[a + j] - fb * matrix[b + j] - fc * matrix[c + j] - fd * matrix[d + j];
  }
}
