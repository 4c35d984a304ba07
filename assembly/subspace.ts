// The leading eigenpairs of a large second moment: subspace iteration from random signs, then Rayleigh-Ritz.
// Halko, Martinsson, Tropp 2011, algorithms 4.4 (power iteration with orthonormalisation) and 5.3.
//
// scratch, with k = rank + oversample: product (k, n) | transposed (n, k) | ritz matrix (k, k) | ritz vectors (k, k) | spare (k)

import { eigen } from "./eigen";
import { addMultiple, dot, scale } from "./jacobi";
import { multiply, transpose } from "./matrix";

export function leadingEigen(
  valuesPtr: usize,
  vectorsPtr: usize,
  matrixPtr: usize,
  scratchPtr: usize,
  n: i32,
  rank: i32,
  oversample: i32,
  iterations: i32,
): i32 {
  const k = rank + oversample;
  const wideBytes = (<usize>k * <usize>n) << 3;
  const smallBytes = (<usize>k * <usize>k) << 3;
  const productPtr = scratchPtr;
  const transposedPtr = productPtr + wideBytes;
  const ritzPtr = transposedPtr + wideBytes;
  const ritzVectorsPtr = ritzPtr + smallBytes;
  const sparePtr = ritzVectorsPtr + smallBytes;

  fillSigns(productPtr, k * n);
  for (let i = 0; i < iterations; i++) {
    multiply(vectorsPtr, productPtr, matrixPtr, k, n, n);
    orthonormalizeRows(vectorsPtr, k, n);
    memory.copy(productPtr, vectorsPtr, wideBytes);
  }
  multiply(vectorsPtr, productPtr, matrixPtr, k, n, n);
  transpose(transposedPtr, productPtr, k, n);
  multiply(ritzPtr, vectorsPtr, transposedPtr, k, n, k);
  const sweeps = eigen(valuesPtr, ritzVectorsPtr, ritzPtr, sparePtr, k);
  multiply(vectorsPtr, ritzVectorsPtr, productPtr, k, k, n);
  return sweeps;
}

/** +1 or -1 by xorshift32, seed 1. */
function fillSigns(ptr: usize, count: i32): void {
  let state: u32 = 2463534242;
  for (let i = 0; i < count; i++, ptr += 8) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    store<f64>(ptr, state & 0x10000 ? 1 : -1);
  }
}

/** Gram-Schmidt twice a row ("twice is enough", Kahan and Parlett); a row that vanishes becomes zero. */
function orthonormalizeRows(rowsPtr: usize, count: i32, dim: i32): void {
  const rowBytes = (<usize>dim) << 3;
  for (let i = 0; i < count; i++) {
    const rowPtr = rowsPtr + rowBytes * <usize>i;
    const before = dot<f64>(rowPtr, rowPtr, dim);
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const otherPtr = rowsPtr + rowBytes * <usize>j;
        addMultiple(rowPtr, otherPtr, -dot<f64>(rowPtr, otherPtr, dim), dim);
      }
    }
    const square = dot<f64>(rowPtr, rowPtr, dim);
    scale(rowPtr, square > 1e-28 * before ? 1 / Math.sqrt(square) : 0, dim);
  }
}
