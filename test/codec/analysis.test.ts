/** Analysis of bent rows: latents of least error, also under a metric, against a plain solution. */
import { beforeAll, describe, expect, it } from "vitest";
import { fitAnalysis, multiplyBlocks } from "../../src/codec/analysis.ts";
import { ConvergenceError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { sameBits } from "../support/exact.ts";
import { orthonormal, product, solve, transposed, withEigenvalues, worst } from "../support/linear-algebra.ts";
import { noise } from "../support/noise.ts";
import { PLATFORMS } from "../support/platforms.ts";

/** Eigenvalues from 1 to 40: roots of a metric that sees some directions 1600 times as well as others. */
const root = (n: number, seed: number): Float64Array =>
  withEigenvalues(
    Array.from({ length: n }, (_, i) => 1 + (39 * i) / n),
    noise(n * n, seed),
  );

/** The block diagonal of roots as one matrix (dim, dim). */
function whole(roots: Float64Array[], dim: number): Float64Array {
  const size = dim / roots.length;
  return Float64Array.from({ length: dim * dim }, (_, i) => {
    const [row, column] = [Math.floor(i / dim), i % dim];
    const block = Math.floor(row / size);
    return block === Math.floor(column / size) ? roots[block][(row % size) * size + (column % size)] : 0;
  });
}

/** A W' (W W')^-1 with W = S A, A the roots: (dim, channels). */
function plain(rows: Float32Array, channels: number, dim: number, roots: Float64Array[] | undefined): Float64Array {
  const a = whole(roots ?? [withEigenvalues(Array(dim).fill(1), noise(dim * dim))], dim);
  const w = product(rows, a, channels, dim, dim);
  const gram = product(w, transposed(w, channels, dim), channels, dim, channels);
  return transposed(product(solve(gram, w, channels, dim), a, channels, dim, dim), channels, dim);
}

const CASES: [string, number, number, number][] = [
  ["one channel of 4", 1, 4, 0],
  ["as many channels as dimensions", 12, 12, 0],
  ["5 channels of 24", 5, 24, 0],
  ["5 channels of 24, a metric of one head", 5, 24, 1],
  ["17 channels of 48, a metric of 3 heads", 17, 48, 3],
];

/** Orthonormal rows with an error of a tenth, as coding in few bits leaves them. */
const bent = (channels: number, dim: number): Float32Array => {
  const errors = noise(channels * dim, 3);
  return Float32Array.from(orthonormal(noise(channels * dim, 2), channels, dim), (x, i) => x + 0.1 * errors[i]);
};
const rootsOf = (heads: number, dim: number): Float64Array[] | undefined =>
  heads ? Array.from({ length: heads }, (_, h) => root(dim / heads, 7 + h)) : undefined;

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create();
});

describe("fitted analysis", () => {
  it.each(CASES)("of %s is that of the normal equations", (_, channels, dim, heads) => {
    const [rows, roots] = [bent(channels, dim), rootsOf(heads, dim)];
    const analysis = fitAnalysis(runtime, rows, dim, roots);
    // f32 at the end of f64 work of a condition of some thousands.
    expect(worst(analysis, plain(rows, channels, dim, roots))).toBeLessThan(1e-6);
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it.each(CASES)("of %s leaves an error that no other latents make smaller", (_, channels, dim, heads) => {
    const [rows, roots] = [bent(channels, dim), rootsOf(heads, dim)];
    const z = noise(dim, 11);
    const latents = product(z, fitAnalysis(runtime, rows, dim, roots), 1, dim, channels);
    const errorOf = (y: ArrayLike<number>): number => {
      const back = product(y, rows, 1, channels, dim);
      const left = Float64Array.from(z, (x, d) => x - back[d]);
      const seen = roots ? product(left, whole(roots, dim), 1, dim, dim) : left;
      return seen.reduce((sum, x) => sum + x * x, 0);
    };
    const least = errorOf(latents);
    for (let c = 0; c < channels; c++) {
      for (const step of [-0.02, 0.02])
        expect(errorOf(latents.map((y, i) => (i === c ? y + step : y)))).toBeGreaterThan(least);
    }
  });

  it("gives back rows that are in the span of the bent ones", () => {
    const rows = bent(6, 16);
    const z = Float32Array.from(product(noise(6, 4), rows, 1, 6, 16));
    const latents = product(z, fitAnalysis(runtime, rows, 16, undefined), 1, 16, 6);
    expect(worst(product(latents, rows, 1, 6, 16), z)).toBeLessThan(1e-6);
    expect(worst(latents, noise(6, 4))).toBeLessThan(1e-6);
  });

  it("of orthonormal rows is their transpose", () => {
    const rows = Float32Array.from(orthonormal(noise(160, 2), 8, 20));
    expect(worst(fitAnalysis(runtime, rows, 20, undefined), transposed(rows, 8, 20))).toBeLessThan(1e-6);
  });

  it("of rows that rounding made alike, or zero, stays finite and still does its best", () => {
    const rows = bent(4, 16);
    rows.copyWithin(16, 0, 16);
    rows.fill(0, 32, 48);
    const analysis = fitAnalysis(runtime, rows, 16, undefined);
    expect(analysis.every(Number.isFinite)).toBe(true);
    const z = Float32Array.from({ length: 16 }, (_, d) => 2 * rows[d] - rows[48 + d]);
    const back = product(product(z, analysis, 1, 16, 4), rows, 1, 4, 16);
    expect(worst(back, z)).toBeLessThan(1e-3);
  });

  it("of rows that are not finite is refused", () => {
    const rows = bent(3, 8);
    rows[9] = Number.NaN;
    expect(() => fitAnalysis(runtime, rows, 8, undefined)).toThrow(ConvergenceError);
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("is the same on every platform, bit for bit", async () => {
    const run = await sameBits();
    for (const [, channels, dim, heads] of CASES) {
      run((on) => [fitAnalysis(on, bent(channels, dim), dim, rootsOf(heads, dim))]);
    }
  });
});

describe("rows times a block diagonal", () => {
  it.each([
    [1, 8, 1],
    [5, 12, 3],
    [33, 64, 2],
  ])("%i rows of %i, %i blocks", (rows, dim, heads) => {
    const blocks = Array.from({ length: heads }, (_, h) => Float64Array.from(noise((dim / heads) ** 2, 20 + h)));
    const matrix = Float64Array.from(noise(rows * dim, 5));
    const got = runtime.heap.scratch((frame) => {
      const ptr = frame.reserve(8 * rows * dim);
      runtime.heap.f64(ptr, rows * dim).set(matrix);
      multiplyBlocks(runtime, ptr, rows, dim, blocks);
      return runtime.heap.f64(ptr, rows * dim).slice();
    });
    expect(worst(got, product(matrix, whole(blocks, dim), rows, dim, dim))).toBeLessThan(1e-14);
  });
});
