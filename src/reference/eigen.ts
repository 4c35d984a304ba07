/** Twins of assembly/eigen.ts. */
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { addMultiple, dot, orthogonalize, orthogonalTo, rowOf, scale } from "./jacobi.ts";

const SHIFT = 2 ** -40;

export const eigenTwins = (views: Views): Pick<Kernels, "eigen" | "jacobiSvd"> => ({
  eigen(valuesPtr, vectorsPtr, matrixPtr, _scratchPtr, n) {
    return eigen(views.f64(valuesPtr, n), views.f64(vectorsPtr, n * n), views.f64(matrixPtr, n * n), n);
  },

  jacobiSvd(singularPtr, vectorsPtr, rowsPtr, _scratchPtr, rowCount, dim) {
    const rows = views.f64(rowsPtr, rowCount * dim);
    if (!rows.every(Number.isFinite)) return -2;
    const singular = views.f64(singularPtr, dim);
    const vectors = views.f64(vectorsPtr, dim * dim).fill(0);
    triangularize(rows, rowCount, dim);
    for (let i = 0; i < Math.min(rowCount, dim); i++) {
      vectors.set(rows.subarray(i * dim + i, (i + 1) * dim), i * dim + i);
    }
    const sweeps = orthogonalize(vectors, dim, dim);
    normalizeRows(singular, vectors, dim, dim);
    sortRows(singular, vectors, dim, dim);
    completeRows(singular, vectors, dim);
    for (let i = 0; i < dim; i++) singular[i] = Math.sqrt(singular[i]);
    return sweeps;
  },
});

export function eigen(values: Float64Array, vectors: Float64Array, matrix: Float64Array, n: number): number {
  const at = (i: number, j: number): number => matrix[Math.max(i, j) * n + Math.min(i, j)];
  let largest = 0;
  let bound = 0;
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += Math.abs(at(i, j));
    if (!(sum < Infinity)) return -2;
    bound = Math.max(bound, sum);
    largest = Math.max(largest, at(i, i));
  }
  if (bound === 0) {
    values.fill(0);
    vectors.forEach((_, i) => {
      vectors[i] = i % (n + 1) === 0 ? 1 : 0;
    });
    return 1;
  }

  let shift = SHIFT * largest;
  const semidefinite = factor(vectors, at, n, shift, 0.5 * shift);
  if (!semidefinite) {
    shift = bound * (1 + SHIFT);
    factor(vectors, at, n, shift, 0);
  }
  const unit = Math.sqrt(semidefinite ? largest : 2 * bound);
  const rows = Float32Array.from(vectors, (x) => x * (1 / unit));
  const sweeps = orthogonalize(rows, n, n);
  vectors.set(rows);
  normalizeRows(values, vectors, n, n);
  sortRows(values, vectors, n, n);
  for (let i = 0; i < n; i++) {
    const value = values[i] * unit * unit - shift;
    values[i] = semidefinite ? Math.max(value, 0) : value;
  }
  return sweeps;
}

/** Rows of L' with A + shift = L L', largest pivot first; false where a pivot is below `leastPivot`. */
function factor(
  rows: Float64Array,
  at: (i: number, j: number) => number,
  n: number,
  shift: number,
  leastPivot: number,
): boolean {
  const diagonal = Float64Array.from({ length: n }, (_, i) => at(i, i) + shift);
  for (let k = 0; k < n; k++) {
    let pivot = 0;
    for (let i = 1; i < n; i++) if (diagonal[i] > diagonal[pivot]) pivot = i;
    const square = diagonal[pivot];
    if (square <= 0 || square < leastPivot) return false;
    const row = rowOf(rows, k, n);
    for (let j = 0; j < n; j++) row[j] = at(pivot, j);
    for (let m = 0; m < k; m++) addMultiple(row, rowOf(rows, m, n), -rows[m * n + pivot]);
    const root = Math.sqrt(square);
    const inverse = 1 / root;
    for (let j = 0; j < n; j++) {
      row[j] *= inverse;
      if (diagonal[j] === -Infinity) row[j] = 0;
      else diagonal[j] -= row[j] * row[j];
    }
    row[pivot] = root;
    diagonal[pivot] = -Infinity;
  }
  return true;
}

/** Divides each row by its norm; writes the squared norms. */
function normalizeRows(squares: Float64Array, rows: Float64Array, count: number, dim: number): void {
  for (let i = 0; i < count; i++) {
    const row = rowOf(rows, i, dim);
    squares[i] = dot(row, row);
    if (squares[i] > 0) scale(row, 1 / Math.sqrt(squares[i]));
  }
}

/** Rows (and their keys) by falling key; the order of equal keys is that of a selection sort. */
function sortRows(keys: Float64Array, rows: Float64Array, count: number, dim: number): void {
  for (let i = 0; i < count - 1; i++) {
    let best = i;
    for (let j = i + 1; j < count; j++) if (keys[j] > keys[best]) best = j;
    if (best === i) continue;
    [keys[i], keys[best]] = [keys[best], keys[i]];
    const row = rowOf(rows, i, dim).slice();
    rowOf(rows, i, dim).set(rowOf(rows, best, dim));
    rowOf(rows, best, dim).set(row);
  }
}

/** Householder QR in place; R replaces the upper triangle. */
function triangularize(rows: Float64Array, rowCount: number, dim: number): void {
  for (let k = 0; k < Math.min(rowCount - 1, dim); k++) {
    const rest = (i: number): Float64Array => rows.subarray(i * dim + k + 1, (i + 1) * dim);
    let square = 0;
    for (let i = k; i < rowCount; i++) square += rows[i * dim + k] * rows[i * dim + k];
    if (square === 0) continue;
    const head = rows[k * dim + k];
    const norm = head > 0 ? -Math.sqrt(square) : Math.sqrt(square);
    const beta = 1 / (square - head * norm);
    rows[k * dim + k] = head - norm;
    const products = new Float64Array(dim - k - 1);
    for (let i = k; i < rowCount; i++) addMultiple(products, rest(i), rows[i * dim + k]);
    for (let i = k; i < rowCount; i++) addMultiple(rest(i), products, -beta * rows[i * dim + k]);
    rows[k * dim + k] = norm;
  }
}

/** Replaces rows whose square is 0 by unit vectors orthogonal to all others. */
function completeRows(squares: Float64Array, rows: Float64Array, dim: number): void {
  let axis = 0;
  for (let i = 0; i < dim; i++) {
    if (squares[i] > 0) continue;
    const row = rowOf(rows, i, dim);
    for (; axis < dim; axis++) {
      row.fill(0);
      row[axis] = 1;
      orthogonalTo(row, rows, i, dim);
      const square = dot(row, row);
      if (square * 2 * dim >= 1) {
        scale(row, 1 / Math.sqrt(square));
        axis++;
        break;
      }
    }
  }
}
