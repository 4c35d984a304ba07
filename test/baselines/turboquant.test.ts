/** TurboQuant: the distortion of the theory, whatever the data, with a rotation that the seed decides. */
import { describe, expect, it } from "vitest";
import { unpackBits } from "../../src/baselines/bits.ts";
import { bitsPerElement } from "../../src/baselines/index.ts";
import { gaussianSource, randomRotation, uniformSource } from "../../src/baselines/rotation.ts";
import { turboquant } from "../../src/baselines/turboquant.ts";
import { fromHalf } from "../../src/codec/half.ts";
import { LLOYD_MAX } from "../../src/codec/lloyd-max.ts";
import { compareAttention, exactAttention } from "../../src/evaluation/metrics.ts";
import { noise } from "../support/noise.ts";
import { PLATFORMS } from "../support/platforms.ts";

const BITS = [2, 3, 4] as const;

const gaussian = (count: number, seed: number): Float32Array =>
  Float32Array.from({ length: count }, gaussianSource(seed));

/** |x - x'|^2 / |x|^2. */
function distortion(values: Float32Array, decoded: Float32Array): number {
  let [error, energy] = [0, 0];
  values.forEach((x, i) => {
    error += (x - decoded[i]) ** 2;
    energy += x * x;
  });
  return error / energy;
}

describe("TurboQuant", () => {
  it.each(BITS)("%i bits: the distortion of Lloyd and Max on Gaussian noise", (bits) => {
    const shape = { heads: 2, tokens: 512, headDim: 128 };
    const baseline = turboquant("key", bits);
    const values = gaussian(2 * 512 * 128, 1);
    const got = distortion(values, baseline.decode(baseline.encode(values, shape), shape));
    // Coordinates of a direction have a lighter tail than a normal: a little less, 2 to 3 % at 128 dimensions.
    expect(got / LLOYD_MAX[bits].distortion).toBeGreaterThan(0.95);
    expect(got / LLOYD_MAX[bits].distortion).toBeLessThan(1.01);
  });

  it.each(BITS)("%i bits: the same on outliers, over many rotations; one alone may be unlucky", (bits) => {
    // One channel far from zero in every token: all directions are nearly that channel's, rotated.
    const shape = { heads: 1, tokens: 32, headDim: 128 };
    const values = gaussian(32 * 128, 1).map((x, i) => (i % 128 === 3 ? 5 * x + 30 : x));
    const ratios = Array.from({ length: 48 }, (_, seed) => {
      const baseline = turboquant("key", bits, seed);
      return distortion(values, baseline.decode(baseline.encode(values, shape), shape)) / LLOYD_MAX[bits].distortion;
    });
    expect(Math.abs(ratios.reduce((sum, x) => sum + x, 0) / 48 - 1)).toBeLessThan(0.05);
  });

  it("has the distortions that the paper prints: 0.117, 0.03, 0.009", () => {
    expect(BITS.map((bits) => LLOYD_MAX[bits].distortion.toFixed(4))).toEqual(["0.1175", "0.0345", "0.0095"]);
  });

  it.each(BITS)("%i bits: stores the root mean square of a token, so its decoded size scales with it", (bits) => {
    const shape = { heads: 1, tokens: 3, headDim: 64 };
    const baseline = turboquant("value", bits);
    const values = noise(192, 6);
    values.fill(0, 128);
    const bytes = baseline.encode(values, shape);
    for (let t = 0; t < 3; t++) {
      const square = values.subarray(64 * t, 64 * t + 64).reduce((sum, x) => sum + x * x, 0) / 64;
      const stored = fromHalf(bytes[2 * t] | (bytes[2 * t + 1] << 8));
      expect(Math.abs(stored - Math.sqrt(square))).toBeLessThanOrEqual(stored * 2 ** -11);
    }
    // Four times as long: the same direction, so the same codes behind the norms.
    const longer = baseline.encode(
      values.map((x) => 4 * x),
      shape,
    );
    expect(longer.subarray(6)).toEqual(bytes.subarray(6));
    expect(baseline.decode(longer, shape)).toEqual(baseline.decode(bytes, shape).map((x) => 4 * x));
  });

  it.each(BITS)("%i bits: keeps the norm but for its distortion", (bits) => {
    // A level is the mean of what it codes, so the squared norm of the code is 1 - distortion.
    const shape = { heads: 1, tokens: 256, headDim: 128 };
    const values = gaussian(256 * 128, 5);
    const decoded = turboquant("key", bits).decode(turboquant("key", bits).encode(values, shape), shape);
    const energy = (all: Float32Array): number => all.reduce((sum, x) => sum + x * x, 0);
    expect(Math.abs(energy(decoded) / energy(values) - (1 - LLOYD_MAX[bits].distortion))).toBeLessThan(0.01);
  });

  it.each(BITS)("%i bits: stores them and a norm of 16 a token", (bits) => {
    for (const headDim of [32, 64, 128]) {
      const shape = { heads: 3, tokens: 5, headDim };
      const bytes = turboquant("key", bits).encode(noise(15 * headDim), shape);
      expect(bitsPerElement(bytes, shape)).toBe(bits + 16 / headDim);
    }
  });

  it.each(BITS)("%i bits: codes each coordinate of the rotated direction by the nearest level", (bits) => {
    const shape = { heads: 1, tokens: 16, headDim: 64 };
    const values = gaussian(16 * 64, 8);
    const codes = unpackBits(turboquant("key", bits, 5).encode(values, shape), 16 * 2, 16 * 64, bits);
    const rotation = randomRotation(64, 5);
    const { centroids } = LLOYD_MAX[bits];
    for (let t = 0; t < 16; t++) {
      const token = values.subarray(64 * t, 64 * t + 64);
      const norm = Math.sqrt(token.reduce((sum, x) => sum + x * x, 0) / 64);
      for (let j = 0; j < 64; j++) {
        const x = token.reduce((sum, y, i) => sum + y * rotation[i * 64 + j], 0) / norm;
        const distances = centroids.map((level) => Math.abs(level - x));
        expect(distances[codes[64 * t + j]]).toBeLessThanOrEqual(Math.min(...distances) + 1e-9);
      }
    }
  });

  it("is what the seed makes it", () => {
    const shape = { heads: 1, tokens: 64, headDim: 64 };
    const values = gaussian(64 * 64, 3);
    const [zero, again, one] = [turboquant("key", 3), turboquant("key", 3, 0), turboquant("key", 3, 1)];
    const bytes = zero.encode(values, shape);
    expect(again.encode(values, shape)).toEqual(bytes);
    expect(one.encode(values, shape)).not.toEqual(bytes);
    expect(one.encode(values, shape).subarray(0, 128)).toEqual(bytes.subarray(0, 128));
    // Decoded with another rotation the directions have nothing to do with each other: |x|^2 + |x'|^2.
    expect(distortion(values, one.decode(bytes, shape))).toBeGreaterThan(1.5);
  });

  it("depends on the seed by some per cent, no more", async () => {
    // Keys as models have them: falling variances, two channels far from zero. 16 rotations, at 2 bits.
    const shape = { heads: 2, tokens: 256, headDim: 64 };
    const like = (count: number, seed: number): Float32Array =>
      gaussian(count * 64, seed).map((x, i) => 3 * x * 0.95 ** (i % 64) + (i % 64 === 4 ? 6 : i % 64 === 40 ? -4 : 0));
    const runtime = await PLATFORMS[2].create({});
    const keys = like(2 * 256, 1);
    const attention = { queries: like(4 * 32, 2), queryHeads: 4, count: 32, firstToken: 224, keys };
    const layer = { ...attention, values: gaussian(keys.length, 3), kvHeads: 2, tokens: 256, headDim: 64 };
    const exact = exactAttention(runtime, layer);
    const divergences = Array.from({ length: 16 }, (_, seed) => {
      const baseline = turboquant("key", 2, seed);
      return compareAttention(runtime, exact, { keys: baseline.decode(baseline.encode(keys, shape), shape) })
        .attentionKl;
    });
    const mean = divergences.reduce((sum, x) => sum + x, 0) / 16;
    const deviation = Math.sqrt(divergences.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 16);
    expect(deviation / mean).toBeGreaterThan(0.02);
    expect(deviation / mean).toBeLessThan(0.2);
    expect(Math.abs(divergences[0] / mean - 1)).toBeLessThan(0.2);
  });
});

describe("the random rotation", () => {
  it.each([1, 2, 3, 32, 64, 128])("is orthogonal: %i dimensions", (dim) => {
    const rotation = randomRotation(dim, 7);
    let worst = 0;
    for (let i = 0; i < dim; i++) {
      for (let j = 0; j < dim; j++) {
        let [rows, columns] = [0, 0];
        for (let k = 0; k < dim; k++) {
          rows += rotation[i * dim + k] * rotation[j * dim + k];
          columns += rotation[k * dim + i] * rotation[k * dim + j];
        }
        const expected = i === j ? 1 : 0;
        worst = Math.max(worst, Math.abs(rows - expected), Math.abs(columns - expected));
      }
    }
    expect(worst).toBeLessThan(1e-13);
  });

  it("spreads one coordinate over all: no entry stands out", () => {
    const rotation = randomRotation(128, 1);
    expect(rotation.reduce((top, x) => Math.max(top, Math.abs(x)), 0)).toBeLessThan(6 / Math.sqrt(128));
    expect(Math.abs(rotation.reduce((sum, x) => sum + x, 0))).toBeLessThan(4 * Math.sqrt(128));
  });

  it("is the same for the same seed, another for another", () => {
    expect(randomRotation(16, 3)).toEqual(randomRotation(16, 3));
    expect(randomRotation(16, 3)).not.toEqual(randomRotation(16, 4));
  });
});

describe("its random numbers", () => {
  it("are uniform", () => {
    const counts = new Array(16).fill(0);
    const uniform = uniformSource(5);
    for (let i = 0; i < 160_000; i++) counts[Math.floor(uniform() * 16)]++;
    // 10,000 each, give or take 97; five deviations.
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
  });

  it("are standard normal", () => {
    const values = gaussian(200_000, 11);
    const moment = (power: number): number => values.reduce((sum, x) => sum + x ** power, 0) / values.length;
    // Deviations of the four means: 0.0022, 0.0032, 0.0087, 0.022; five of each.
    expect(Math.abs(moment(1))).toBeLessThan(0.011);
    expect(Math.abs(moment(2) - 1)).toBeLessThan(0.016);
    expect(Math.abs(moment(3))).toBeLessThan(0.044);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.11);
    // Neighbours, which the polar method makes in pairs, are independent.
    const pairs = values.reduce((sum, x, i) => (i % 2 ? sum + x * values[i - 1] : sum), 0) / 100_000;
    expect(Math.abs(pairs)).toBeLessThan(0.016);
  });
});
