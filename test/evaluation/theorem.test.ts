/** Spectrum and theorem on caches whose answer is known. */
import { describe, expect, it } from "vitest";
import { energyOf } from "../../src/evaluation/spectrum.ts";
import { measureKeys, predictedRatio, schedulesOf } from "../../src/evaluation/theorem.ts";
import { noise } from "../support/noise.ts";
import { PLATFORMS } from "../support/platforms.ts";

describe("energyOf", () => {
  it("counts channels from the strongest", () => {
    expect(energyOf([1, 0, 8, 1, 0, 0, 0, 0])).toEqual({
      channels: 8,
      eighth: 0.8,
      quarter: 0.9,
      half: 1,
      channels90: 2,
      channels99: 3,
    });
  });

  it("takes nothing for all where there is no energy", () => {
    expect(energyOf(new Float64Array(8))).toMatchObject({ eighth: 1, channels90: 0, channels99: 0 });
  });
});

describe("schedulesOf", () => {
  it("gives every falling schedule of the sum, once", () => {
    const all = schedulesOf(16);
    expect(all).toContainEqual([8, 4, 2, 1, 1, 0, 0, 0]);
    expect(all).toContainEqual([4, 4, 4, 4, 0, 0, 0, 0]);
    expect(new Set(all.map(String)).size).toBe(all.length);
    for (const widths of all) {
      expect(widths).toHaveLength(8);
      expect(widths.reduce((a, b) => a + b)).toBe(16);
      expect([...widths].sort((a, b) => b - a)).toEqual(widths);
    }
  });
});

describe("predictedRatio", () => {
  const spectrum = (variance: number[]) => [
    { dim: variance.length, variance: Float64Array.from(variance), widthSquared: 36 },
  ];

  it("is 1 for the same bits everywhere, whatever the spectrum", () => {
    const even = [2, 2, 2, 2, 2, 2, 2, 2];
    expect(predictedRatio(spectrum([9, 5, 3, 1, 1, 0.5, 0.1, 0]), even, 2)).toBeCloseTo(1, 12);
  });

  it("is that of one channel where all energy is in it", () => {
    // (2^2 - 1)^2 / (2^8 - 1)^2
    expect(predictedRatio(spectrum([1, 0, 0, 0, 0, 0, 0, 0]), [8, 8, 0, 0, 0, 0, 0, 0], 2)).toBeCloseTo(9 / 65025, 12);
  });
});

describe.each(PLATFORMS)("measureKeys on $name", ({ create }) => {
  const [kvHeads, headDim, tokens] = [2, 32, 129];
  const geometry = { layerCount: 1, kvHeads, headDim };
  const still = { layout: "half-split" as const, frequencies: new Float64Array(0) };
  const range = { tokens, first: 1, count: tokens - 1 };

  async function measure(keys: Float32Array) {
    const runtime = await create();
    return runtime.heap.scratch((frame) => {
      const ptr = frame.reserve(keys.byteLength);
      runtime.heap.f32(ptr, keys.length).set(keys);
      return measureKeys(runtime, geometry, still, range, ptr);
    });
  }

  it("keeps the energy of the keys, and finds no gain in noise", async () => {
    const keys = noise(kvHeads * tokens * headDim, 3);
    const { variance, theorem } = await measure(keys);
    expect(variance).toHaveLength(64);
    // A channel of even noise in [-1, 1) has a variance of 1/3.
    expect(variance.reduce((sum, v) => sum + v, 0)).toBeCloseTo(64 / 3, -0.5);
    expect(theorem.ratio).toBeGreaterThan(0.5);
    expect(theorem.originalError).toBeGreaterThan(0);
  });

  it("finds a great gain where keys lie near a line", async () => {
    const along = noise(tokens, 5);
    const off = noise(kvHeads * tokens * headDim, 7);
    const keys = off.map((x, i) => along[Math.floor(i / headDim) % tokens] + 0.001 * x);
    const { variance, theorem } = await measure(keys);
    expect(energyOf(variance).channels99).toBe(1);
    expect(theorem.schedule[0]).toBe(8);
    expect(theorem.ratio).toBeLessThan(0.001);
  });

  it("has no error and no ratio on constant keys", async () => {
    const { theorem } = await measure(new Float32Array(kvHeads * tokens * headDim).fill(0.5));
    expect(theorem).toMatchObject({ latentError: 0, originalError: 0, ratio: 0, predicted: 0 });
  });
});
