// Eigenvectors of symmetric matrices and singular vectors of rows, both by one-sided Jacobi (jacobi.ts).
//
// eigen: A + shift = L L' (Cholesky, largest pivot first); rows G = L'; rotating G's rows until they are orthogonal
// gives G = S U', so A + shift = U S^2 U' with no rotations to accumulate. Pivoting makes G nearly graded, so few
// sweeps are needed (Veselic and Hari 1989). The factor is made in f64, the sweeps run in f32: errors stay relative to
// each row, so eigenvectors come out orthogonal to 1e-6, enough for a basis stored in 12 bits at most (docs/adr/0003).
// The shift is 2^-40 of the largest diagonal for second moments, which keeps null directions in the basis, and the
// infinity norm where a pivot shows that A is indefinite.

import { addMultiple, dot, orthogonalize, scale } from "./jacobi";

const SHIFT: f64 = 9.094947017729282e-13; // 2^-40

export function eigen(valuesPtr: usize, vectorsPtr: usize, matrixPtr: usize, scratchPtr: usize, n: i32): i32 {
  let largest: f64 = 0;
  let bound: f64 = 0;
  for (let i = 0; i < n; i++) {
    let sum: f64 = 0;
    for (let j = 0; j < n; j++) sum += Math.abs(symmetric(matrixPtr, n, i, j));
    if (!(sum < Infinity)) return -2;
    bound = max(bound, sum);
    largest = max(largest, symmetric(matrixPtr, n, i, i));
  }
  if (bound == 0) return identity(valuesPtr, vectorsPtr, n);

  let shift = SHIFT * largest;
  const semidefinite = factor(vectorsPtr, scratchPtr, matrixPtr, n, shift, 0.5 * shift);
  if (!semidefinite) {
    shift = bound * (1 + SHIFT);
    factor(vectorsPtr, scratchPtr, matrixPtr, n, shift, 0);
  }
  // f32 rows with a largest norm near 1 neither overflow nor vanish: the shift bounds their range by 2^20.
  const unit = Math.sqrt(semidefinite ? largest : 2 * bound);
  narrowRows(vectorsPtr, n * n, 1 / unit);
  const sweeps = orthogonalize<f32>(vectorsPtr, scratchPtr, n, n);
  widenRows(vectorsPtr, n * n);
  normalizeRows(valuesPtr, vectorsPtr, n, n);
  sortRows(valuesPtr, vectorsPtr, n, n);
  for (let i = 0; i < n; i++) {
    const ptr = valuesPtr + ((<usize>i) << 3);
    const value = load<f64>(ptr) * unit * unit - shift;
    store<f64>(ptr, semidefinite ? max(value, 0) : value);
  }
  return sweeps;
}

/** The answer for a matrix of zeros. */
function identity(valuesPtr: usize, vectorsPtr: usize, n: i32): i32 {
  memory.fill(valuesPtr, 0, (<usize>n) << 3);
  memory.fill(vectorsPtr, 0, ((<usize>n) * <usize>n) << 3);
  for (let i = 0; i < n; i++) store<f64>(vectorsPtr + (((<usize>i) * <usize>(n + 1)) << 3), 1);
  return 1;
}

/** f64 (count) times factor -> f32 (count), in place from the front. */
function narrowRows(ptr: usize, count: i32, factor: f64): void {
  for (let i = 0; i < count; i++) store<f32>(ptr + ((<usize>i) << 2), <f32>(load<f64>(ptr + ((<usize>i) << 3)) * factor));
}

/** f32 (count) -> f64 (count), in place from the back. */
function widenRows(ptr: usize, count: i32): void {
  for (let i = count - 1; i >= 0; i--) store<f64>(ptr + ((<usize>i) << 3), <f64>load<f32>(ptr + ((<usize>i) << 2)));
}

// @ts-expect-error: decorator
@inline
function symmetric(matrixPtr: usize, n: i32, i: i32, j: i32): f64 {
  const at = i >= j ? (<usize>i) * <usize>n + <usize>j : (<usize>j) * <usize>n + <usize>i;
  return load<f64>(matrixPtr + (at << 3));
}

/**
 * Rows (n, n) of L' with A + shift = L L'. diagonal (n) f64 is scratch; a used pivot is marked by -Infinity.
 * Returns false where a pivot is below `leastPivot`, half the shift: the matrix is not semidefinite.
 */
function factor(rowsPtr: usize, diagonalPtr: usize, matrixPtr: usize, n: i32, shift: f64, leastPivot: f64): bool {
  const rowBytes = (<usize>n) << 3;
  for (let i = 0; i < n; i++) store<f64>(diagonalPtr + ((<usize>i) << 3), symmetric(matrixPtr, n, i, i) + shift);
  for (let k = 0; k < n; k++) {
    let pivot = 0;
    for (let i = 1; i < n; i++) {
      if (load<f64>(diagonalPtr + ((<usize>i) << 3)) > load<f64>(diagonalPtr + ((<usize>pivot) << 3))) pivot = i;
    }
    const square = load<f64>(diagonalPtr + ((<usize>pivot) << 3));
    if (square <= 0 || square < leastPivot) return false;
    const rowPtr = rowsPtr + rowBytes * <usize>k;
    for (let j = 0; j < n; j++) store<f64>(rowPtr + ((<usize>j) << 3), symmetric(matrixPtr, n, pivot, j));
    for (let m = 0; m < k; m++) {
      const earlierPtr = rowsPtr + rowBytes * <usize>m;
      addMultiple(rowPtr, earlierPtr, -load<f64>(earlierPtr + ((<usize>pivot) << 3)), n);
    }
    const root = Math.sqrt(square);
    scale(rowPtr, 1 / root, n);
    for (let j = 0; j < n; j++) {
      const ptr = diagonalPtr + ((<usize>j) << 3);
      const left = load<f64>(ptr);
      const x = load<f64>(rowPtr + ((<usize>j) << 3));
      if (left == -Infinity) store<f64>(rowPtr + ((<usize>j) << 3), 0);
      else store<f64>(ptr, left - x * x);
    }
    store<f64>(rowPtr + ((<usize>pivot) << 3), root);
    store<f64>(diagonalPtr + ((<usize>pivot) << 3), -Infinity);
  }
  return true;
}

/** Rows (and their keys) by falling key; selection sort, since a row is long and moves at most once. */
function sortRows(keysPtr: usize, rowsPtr: usize, count: i32, dim: i32): void {
  const rowBytes = (<usize>dim) << 3;
  for (let i = 0; i < count - 1; i++) {
    let best = i;
    for (let j = i + 1; j < count; j++) {
      if (load<f64>(keysPtr + ((<usize>j) << 3)) > load<f64>(keysPtr + ((<usize>best) << 3))) best = j;
    }
    if (best != i) {
      swap(keysPtr + ((<usize>i) << 3), keysPtr + ((<usize>best) << 3), 1);
      swap(rowsPtr + rowBytes * <usize>i, rowsPtr + rowBytes * <usize>best, dim);
    }
  }
}

function swap(aPtr: usize, bPtr: usize, count: i32): void {
  for (let i = 0; i < count; i++, aPtr += 8, bPtr += 8) {
    const a = load<f64>(aPtr);
    store<f64>(aPtr, load<f64>(bPtr));
    store<f64>(bPtr, a);
  }
}

/** Divides each row by its norm; writes the squared norms. */
function normalizeRows(squaresPtr: usize, rowsPtr: usize, count: i32, dim: i32): void {
  for (let i = 0; i < count; i++) {
    const rowPtr = rowsPtr + (((<usize>i) * <usize>dim) << 3);
    const square = dot<f64>(rowPtr, rowPtr, dim);
    store<f64>(squaresPtr + ((<usize>i) << 3), square);
    if (square > 0) scale(rowPtr, 1 / Math.sqrt(square), dim);
  }
}

export function jacobiSvd(
  singularPtr: usize, vectorsPtr: usize, rowsPtr: usize, scratchPtr: usize, rowCount: i32, dim: i32,
): i32 {
  for (let i = 0; i < rowCount * dim; i++) {
    if (!(Math.abs(load<f64>(rowsPtr + ((<usize>i) << 3))) < Infinity)) return -2;
  }
  triangularize(rowsPtr, scratchPtr, rowCount, dim);
  memory.fill(vectorsPtr, 0, ((<usize>dim) * <usize>dim) << 3);
  for (let i = 0; i < min(rowCount, dim); i++) {
    const offset = ((<usize>i) * <usize>dim + <usize>i) << 3;
    memory.copy(vectorsPtr + offset, rowsPtr + offset, (<usize>(dim - i)) << 3);
  }
  const sweeps = orthogonalize<f64>(vectorsPtr, scratchPtr, dim, dim);
  normalizeRows(singularPtr, vectorsPtr, dim, dim);
  sortRows(singularPtr, vectorsPtr, dim, dim);
  completeRows(singularPtr, vectorsPtr, dim);
  for (let i = 0; i < dim; i++) {
    const ptr = singularPtr + ((<usize>i) << 3);
    store<f64>(ptr, Math.sqrt(load<f64>(ptr)));
  }
  return sweeps;
}

/** Householder QR in place; R replaces the upper triangle of rows (rowCount, dim). products (dim) f64 is scratch. */
function triangularize(rowsPtr: usize, productsPtr: usize, rowCount: i32, dim: i32): void {
  const rowBytes = (<usize>dim) << 3;
  for (let k = 0; k < min(rowCount - 1, dim); k++) {
    const columnPtr = rowsPtr + ((<usize>k) << 3);
    const diagonalPtr = columnPtr + rowBytes * <usize>k;
    let square: f64 = 0;
    for (let i = k; i < rowCount; i++) {
      const x = load<f64>(columnPtr + rowBytes * <usize>i);
      square += x * x;
    }
    if (square == 0) continue;
    const head = load<f64>(diagonalPtr);
    const norm = head > 0 ? -Math.sqrt(square) : Math.sqrt(square);
    const beta = 1 / (square - head * norm);
    store<f64>(diagonalPtr, head - norm);
    // products = v' A for the columns right of k, then A -= beta v products.
    const width = dim - k - 1;
    memory.fill(productsPtr, 0, (<usize>width) << 3);
    for (let i = k; i < rowCount; i++) {
      const ptr = columnPtr + rowBytes * <usize>i;
      addMultiple(productsPtr, ptr + 8, load<f64>(ptr), width);
    }
    for (let i = k; i < rowCount; i++) {
      const ptr = columnPtr + rowBytes * <usize>i;
      addMultiple(ptr + 8, productsPtr, -beta * load<f64>(ptr), width);
    }
    store<f64>(diagonalPtr, norm);
  }
}

/** Replaces rows whose square is 0 by unit vectors orthogonal to all others. */
function completeRows(squaresPtr: usize, rowsPtr: usize, dim: i32): void {
  const rowBytes = (<usize>dim) << 3;
  let axis = 0;
  for (let i = 0; i < dim; i++) {
    const rowPtr = rowsPtr + rowBytes * <usize>i;
    if (load<f64>(squaresPtr + ((<usize>i) << 3)) > 0) continue;
    for (; axis < dim; axis++) {
      memory.fill(rowPtr, 0, rowBytes);
      store<f64>(rowPtr + ((<usize>axis) << 3), 1);
      for (let pass = 0; pass < 2; pass++) {
        for (let j = 0; j < i; j++) {
          const otherPtr = rowsPtr + rowBytes * <usize>j;
          addMultiple(rowPtr, otherPtr, -dot<f64>(rowPtr, otherPtr, dim), dim);
        }
      }
      const square = dot<f64>(rowPtr, rowPtr, dim);
      // Some axis keeps at least 1 / dim of its length; half of that leaves room for rounding.
      if (square * 2 * <f64>dim >= 1) {
        scale(rowPtr, 1 / Math.sqrt(square), dim);
        axis++;
        break;
      }
    }
  }
}
