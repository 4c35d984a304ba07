/** Inputs of the eigensolvers, the call of one, and what tests expect of vectors. */
import { expect } from "vitest";
import { eigenScratchBytes } from "../../src/codec/layout.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import type { Arena } from "./arena.ts";
import { noise } from "./noise.ts";

/** Orthogonality and residual of f32 sweeps: a few roundings of a sum over the dimension. */
export const F32_TOLERANCE = 5e-6;

export interface Pairs {
  status: number;
  values: Float64Array;
  vectors: Float64Array;
}

export function eigen(runtime: Runtime, arena: Arena, matrix: Float64Array, n: number): Pairs {
  const matrixPtr = arena.put(matrix);
  const [valuesPtr, vectorsPtr, scratchPtr] = [arena.out(8 * n), arena.out(8 * n * n), arena.out(eigenScratchBytes(n))];
  const status = runtime.kernels.eigen(valuesPtr, vectorsPtr, matrixPtr, scratchPtr, n);
  expect(arena.f64(matrixPtr, n * n), "the matrix is only read").toEqual(matrix);
  return { status, values: arena.f64(valuesPtr, n), vectors: arena.f64(vectorsPtr, n * n) };
}

/** Rows with a spectrum that falls by `fall` a channel, mixed by noise. */
export function fallingRows(rowCount: number, dim: number, fall: number, seed = 1): Float64Array {
  const [latents, mix] = [noise(rowCount * dim, seed), noise(dim * dim, seed + 1)];
  const rows = new Float64Array(rowCount * dim);
  for (let t = 0; t < rowCount; t++) {
    for (let c = 0; c < dim; c++) {
      for (let d = 0; d < dim; d++) rows[t * dim + d] += latents[t * dim + c] * fall ** c * mix[c * dim + d];
    }
  }
  return rows;
}

export function gram(rows: Float64Array, rowCount: number, dim: number): Float64Array {
  const out = new Float64Array(dim * dim);
  for (let t = 0; t < rowCount; t++) {
    for (let i = 0; i < dim; i++)
      for (let j = 0; j < dim; j++) out[i * dim + j] += rows[t * dim + i] * rows[t * dim + j];
  }
  return out;
}

const dotRows = (v: Float64Array, i: number, j: number, n: number): number => {
  let sum = 0;
  for (let k = 0; k < n; k++) sum += v[i * n + k] * v[j * n + k];
  return sum;
};

export function expectOrthonormal(vectors: Float64Array, count: number, dim: number, tolerance: number): void {
  for (let i = 0; i < count; i++) {
    for (let j = 0; j <= i; j++)
      expect(Math.abs(dotRows(vectors, i, j, dim) - (i === j ? 1 : 0))).toBeLessThan(tolerance);
  }
}
