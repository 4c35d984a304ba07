import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { beforeAll, describe, expect, it } from "vitest";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { EDGES } from "../support/edges.ts";
import { eigen, expectOrthonormal, F32_TOLERANCE, fallingRows, gram, type Pairs } from "../support/eigenpairs.ts";
import { sameBits } from "../support/exact.ts";
import { PLATFORMS, SIZES } from "../support/platforms.ts";

/** Orthogonality and residual of f64 sweeps: a few roundings of a sum over the dimension. */
const F64_TOLERANCE = 1e-11;

function svd(runtime: Runtime, arena: Arena, rows: Float64Array, rowCount: number, dim: number): Pairs {
  const rowsPtr = arena.put(rows);
  const [valuesPtr, vectorsPtr, scratchPtr] = [arena.out(8 * dim), arena.out(8 * dim * dim), arena.out(8 * dim)];
  const status = runtime.kernels.jacobiSvd(valuesPtr, vectorsPtr, rowsPtr, scratchPtr, rowCount, dim);
  return { status, values: arena.f64(valuesPtr, dim), vectors: arena.f64(vectorsPtr, dim * dim) };
}

function expectEigenpairs(
  matrix: Float64Array,
  n: number,
  { status, values, vectors }: Pairs,
  tolerance: number,
): void {
  expect(status).toBeGreaterThan(0);
  const norm = Math.max(1e-300, ...values.map(Math.abs));
  expectOrthonormal(vectors, n, n, tolerance);
  for (let k = 0; k < n; k++) {
    if (k) expect(values[k]).toBeLessThanOrEqual(values[k - 1]);
    for (let i = 0; i < n; i++) {
      let product = 0;
      for (let j = 0; j < n; j++) product += matrix[i * n + j] * vectors[k * n + j];
      expect(Math.abs(product - values[k] * vectors[k * n + i])).toBeLessThan(tolerance * norm);
    }
  }
}

describe.each(PLATFORMS)("eigen on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });
  const solve = (matrix: Float64Array, n: number): Pairs =>
    withArena(runtime, (arena) => eigen(runtime, arena, matrix, n));

  it.each(SIZES.filter((n) => n > 0 && n <= 65))("second moments of dimension %i", (n) => {
    const matrix = gram(fallingRows(2 * n, n, 0.9), 2 * n, n);
    const result = solve(matrix, n);
    expectEigenpairs(matrix, n, result, F32_TOLERANCE);
    let trace = 0;
    for (let i = 0; i < n; i++) trace += matrix[i * (n + 1)];
    const energy = result.values.reduce((a, b) => a + b, 0);
    expect(Math.abs(energy / trace - 1), "sum of variances = energy").toBeLessThan(1e-5);
  });

  it("agrees with ml-matrix, indefinite matrices included", () => {
    const n = 24;
    const half = noise(n * n, 5);
    const matrix = Float64Array.from({ length: n * n }, (_, i) => half[i] + half[(i % n) * n + Math.floor(i / n)]);
    const result = solve(matrix, n);
    expectEigenpairs(matrix, n, result, F32_TOLERANCE);
    const rows = Array.from({ length: n }, (_, i) => Array.from(matrix.subarray(i * n, (i + 1) * n)));
    const peer = new EigenvalueDecomposition(new Matrix(rows), { assumeSymmetric: true }).realEigenvalues.sort(
      (a, b) => b - a,
    );
    peer.forEach((x, i) => {
      expect(Math.abs(result.values[i] - x)).toBeLessThan(1e-5 * peer[0]);
    });
  });

  it.each<[string, Float64Array]>([
    ["zeros", new Float64Array(49)],
    ["the identity (equal values)", Float64Array.from({ length: 49 }, (_, i) => (i % 8 === 0 ? 1 : 0))],
    ["rank 1", Float64Array.from({ length: 49 }, (_, i) => (1 + (i % 7)) * (1 + Math.floor(i / 7)))],
    ["one huge outlier", Float64Array.from({ length: 49 }, (_, i) => (i === 0 ? 1e60 : i % 8 === 0 ? 1 : 0))],
    ["tiny values", Float64Array.from({ length: 49 }, (_, i) => (i % 8 === 0 ? 1e-60 * (1 + i) : 0))],
    ["denormals", Float64Array.from({ length: 49 }, (_, i) => (i % 8 === 0 ? 1e-310 * (1 + i) : 0))],
    [
      "a constant channel, zero once centred",
      gram(fallingRows(9, 7, 0.9), 9, 7).map((x, i) => (i % 7 === 3 || Math.floor(i / 7) === 3 ? 0 : x)),
    ],
    [
      "two equal pairs of values",
      Float64Array.from({ length: 49 }, (_, i) => (i % 8 === 0 ? [3, 3, 2, 2, 1, 0.5, 0.25][i / 8] : 0)),
    ],
    ["negative definite", Float64Array.from({ length: 49 }, (_, i) => (i % 8 === 0 ? -1 - i : 0))],
  ])("takes %s", (_, matrix) => expectEigenpairs(matrix, 7, solve(matrix, 7), F32_TOLERANCE));

  it("more channels than tokens: the rest of the basis is orthonormal, its values are 0", () => {
    const matrix = gram(fallingRows(5, 16, 1), 5, 16);
    const result = solve(matrix, 16);
    expectEigenpairs(matrix, 16, result, F32_TOLERANCE);
    expect(Math.abs(result.values[5])).toBeLessThan(1e-9 * result.values[0]);
  });

  it.each([Number.NaN, Infinity, -Infinity])("reports a matrix that holds %d", (bad) => {
    const matrix = new Float64Array(9).fill(1);
    matrix[3] = bad;
    expect(solve(matrix, 3).status).toBe(-2);
  });
});

describe.each(PLATFORMS)("jacobiSvd on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it.each([
    [1, 1],
    [3, 5],
    [5, 3],
    [40, 17],
    [65, 64],
    [7, 31],
  ])("of %i x %i rows: squares are the eigenvalues of the Gram", (rowCount, dim) => {
    const rows = fallingRows(rowCount, dim, 0.8);
    const result = withArena(runtime, (arena) => svd(runtime, arena, rows, rowCount, dim));
    const squares = result.values.map((x) => x * x);
    expectEigenpairs(gram(rows, rowCount, dim), dim, { ...result, values: squares }, F64_TOLERANCE);
  });

  it("is the oracle for eigen: values to 1e-5, even at a condition of 1e10", () => {
    const rows = fallingRows(100, 24, 0.4);
    const exact = withArena(runtime, (arena) => svd(runtime, arena, rows, 100, 24));
    const found = withArena(runtime, (arena) => eigen(runtime, arena, gram(rows, 100, 24), 24));
    exact.values.forEach((s, i) => {
      const floor = 1e-10 * exact.values[0] ** 2;
      expect(Math.abs(found.values[i] - s * s)).toBeLessThan(1e-5 * s * s + floor);
    });
  });

  it.each<[string, (t: number, d: number) => number]>([
    ["rank 1", (t, d) => (1 + t) * (1 + d)],
    ["equal singular values", (t, d) => (t % 6 === d ? 1 : 0)],
    ["a constant channel", (t, d) => (d === 2 ? 5 : Math.sin(7 * t + d * d))],
    ["one huge outlier", (t, d) => (t === 5 && d === 1 ? 1e30 : Math.cos(3 * t + d * d))],
    ["f32 denormals", (t, d) => 1e-42 * Math.cos(3 * t + d * d)],
    ["a channel of zeros", (t, d) => (d === 0 ? 0 : Math.cos(3 * t + d * d))],
  ])("takes %s", (_, element) => {
    const rows = Float64Array.from({ length: 12 * 6 }, (_, i) => element(Math.floor(i / 6), i % 6));
    const result = withArena(runtime, (arena) => svd(runtime, arena, rows, 12, 6));
    expect(result.status).toBeGreaterThan(0);
    expectOrthonormal(result.vectors, 6, 6, F64_TOLERANCE);
    // |rows * v| is the singular value, which also holds where squares would underflow.
    for (let k = 0; k < 6; k++) {
      const image = Array.from({ length: 12 }, (_, t) => {
        let sum = 0;
        for (let d = 0; d < 6; d++) sum += rows[6 * t + d] * result.vectors[6 * k + d];
        return sum;
      });
      expect(Math.abs(Math.hypot(...image) - result.values[k])).toBeLessThanOrEqual(F64_TOLERANCE * result.values[0]);
      if (k) expect(result.values[k]).toBeLessThanOrEqual(result.values[k - 1]);
    }
  });

  it("zeros and NaN", () => {
    const zeros = withArena(runtime, (arena) => svd(runtime, arena, new Float64Array(12), 3, 4));
    expect(Array.from(zeros.values)).toEqual([0, 0, 0, 0]);
    expectOrthonormal(zeros.vectors, 4, 4, F64_TOLERANCE);
    const bad = withArena(runtime, (arena) => svd(runtime, arena, new Float64Array(12).fill(Number.NaN), 3, 4));
    expect(bad.status).toBe(-2);
  });
});

describe("eigen kernels everywhere", () => {
  it("give the same bits as their twins", async () => {
    const same = await sameBits();
    for (const n of [1, 2, 3, 8, 17, 33, 64]) {
      const rows = fallingRows(n + 3, n, 0.9, n);
      same((runtime, arena) => {
        const a = eigen(runtime, arena, gram(rows, n + 3, n), n);
        const b = svd(runtime, arena, rows, n + 3, n);
        return [a.values, a.vectors, [a.status], b.values, b.vectors, [b.status]];
      });
    }
    for (const [, make] of EDGES) {
      const rows = Float64Array.from(make(12, 6));
      same((runtime, arena) => {
        const a = eigen(runtime, arena, gram(rows, 12, 6), 6);
        const b = svd(runtime, arena, rows, 12, 6);
        return [a.values, a.vectors, [a.status], b.values, b.vectors, [b.status]];
      });
    }
  });
});
