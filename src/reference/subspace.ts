/** Twin of assembly/subspace.ts. */
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { eigen } from "./eigen.ts";
import { dot, orthogonalTo, rowOf, scale } from "./jacobi.ts";
import { multiply, transpose } from "./matrix.ts";

export const subspaceTwins = (views: Views): Pick<Kernels, "leadingEigen"> => ({
  leadingEigen(valuesPtr, vectorsPtr, matrixPtr, _scratchPtr, n, rank, oversample, iterations) {
    const k = rank + oversample;
    const matrix = views.f64(matrixPtr, n * n);
    const vectors = views.f64(vectorsPtr, k * n);
    const product = new Float64Array(k * n);
    const transposed = new Float64Array(n * k);
    const ritz = new Float64Array(k * k);
    const ritzVectors = new Float64Array(k * k);
    fillSigns(product);
    for (let i = 0; i < iterations; i++) {
      multiply(vectors, product, matrix, k, n, n);
      orthonormalizeRows(vectors, k, n);
      product.set(vectors);
    }
    multiply(vectors, product, matrix, k, n, n);
    transpose(transposed, product, k, n);
    multiply(ritz, vectors, transposed, k, n, k);
    const sweeps = eigen(views.f64(valuesPtr, k), ritzVectors, ritz, k);
    multiply(vectors, ritzVectors, product, k, k, n);
    return sweeps;
  },
});

/** Gram-Schmidt twice a row; a row that vanishes becomes zero. */
function orthonormalizeRows(rows: Float64Array, count: number, dim: number): void {
  for (let i = 0; i < count; i++) {
    const row = rowOf(rows, i, dim);
    const before = dot(row, row);
    orthogonalTo(row, rows, i, dim);
    const square = dot(row, row);
    scale(row, square > 1e-28 * before ? 1 / Math.sqrt(square) : 0);
  }
}

/** +1 or -1 by xorshift32. */
function fillSigns(signs: Float64Array): void {
  let state = 2463534242 | 0;
  for (let i = 0; i < signs.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    signs[i] = state & 0x10000 ? 1 : -1;
  }
}
