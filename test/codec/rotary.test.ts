/** Frequencies of RoPE against the host's own functions, and what is no rotary embedding. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { checkRotary, frequenciesOf, integerRoot, type Rotary } from "../../src/codec/rotary.ts";
import { failureOf } from "../support/failure.ts";

/** theta^(-i / pairs), by the host. */
const byPower = (theta: number, pairs: number): number[] =>
  Array.from({ length: pairs }, (_, i) => theta ** (-i / pairs));

function worstError(got: Float64Array, expected: number[]): number {
  expect(got.length).toBe(expected.length);
  return expected.reduce((worst, x, i) => Math.max(worst, Math.abs(got[i] / x - 1)), 0);
}

describe("frequencies", () => {
  // Theta of SmolLM2, Llama 2 and Mistral, Llama 3, Qwen 2.5, Code Llama's 16k, Phi, the largest that is allowed.
  const THETAS = [1, 1.0000001, 2, 100, 10000, 100000, 500000, 1e6, 1e7, 8e6, 1e12];
  const DIMS = [32, 64, 80, 96, 128, 256];

  it.each(THETAS)("theta %d: theta^(-i / pairs) to 1e-12 for every head dim", (theta) => {
    for (const headDim of DIMS) {
      expect(worstError(frequenciesOf(theta, headDim / 2), byPower(theta, headDim / 2))).toBeLessThan(1e-12);
    }
  });

  it("do so for any theta and any number of pairs", () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 12, noNaN: true }), fc.integer({ min: 0, max: 128 }), (log, pairs) => {
        const theta = Math.min(10 ** log, 1e12);
        expect(worstError(frequenciesOf(theta, pairs), byPower(theta, pairs))).toBeLessThan(1e-12);
      }),
      { numRuns: 500 },
    );
  });

  it("start at one radian and fall", () => {
    const frequencies = frequenciesOf(500000, 64);
    expect(frequencies[0]).toBe(1);
    for (let i = 1; i < 64; i++) expect(frequencies[i]).toBeLessThan(frequencies[i - 1]);
  });

  it.each([0, 0.99, -1, Number.NaN, Infinity, 1.1e12])("refuse theta %d", async (theta) => {
    const error = await failureOf(() => frequenciesOf(theta, 16));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe(`theta: expected a number from 1 to 1000000000000, got ${theta}`);
  });

  it("come from roots that are exact where they can be", () => {
    for (const [x, n, root] of [
      [1, 7, 1],
      [4096, 12, 2],
      [3 ** 20, 20, 3],
      [1e12, 12, 10],
      [1e12, 1, 1e12],
    ]) {
      expect(Math.abs(integerRoot(x, n) / root - 1)).toBeLessThan(2e-15);
    }
  });
});

// -------------------------------------------------------------------------------------------------- scalings
/** Llama 3's: long waves are slowed by a factor, short ones kept, a smooth passage between (transformers). */
function llama3(frequencies: Float64Array, factor: number, low: number, high: number, length: number): Float64Array {
  return frequencies.map((frequency) => {
    const wave = (2 * Math.PI) / frequency;
    if (wave < length / high) return frequency;
    if (wave > length / low) return frequency / factor;
    const smooth = (length / wave - low) / (high - low);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  });
}

/** YaRN's: a ramp over the pairs between interpolation and none. */
const yarn = (frequencies: Float64Array, factor: number): Float64Array =>
  frequencies.map((frequency, i) => {
    const ramp = Math.min(1, Math.max(0, (i / frequencies.length - 0.3) / 0.4));
    return frequency * (1 - ramp) + (frequency / factor) * ramp;
  });

describe("checkRotary", () => {
  const plain = frequenciesOf(500000, 64);
  const half = (frequencies: Float64Array): Rotary => ({ layout: "half-split", frequencies });

  it("takes any scaling as the frequencies that it leads to, and gives back what it was given", () => {
    const scalings = [
      plain,
      plain.map((f) => f / 8),
      llama3(plain, 32, 1, 4, 8192),
      yarn(plain, 4),
      plain.map((f) => -f),
    ];
    for (const frequencies of scalings) {
      for (const layout of ["half-split", "interleaved"] as const) {
        const rotary = { layout, frequencies };
        expect(checkRotary(rotary, 128)).toBe(rotary);
      }
    }
  });

  it("takes partial rotary, and none", () => {
    expect(checkRotary(half(plain.subarray(0, 16)), 80).frequencies.length).toBe(16);
    expect(checkRotary(half(new Float64Array(0)), 80).frequencies.length).toBe(0);
  });

  const range = `a number from ${-Math.PI} to ${Math.PI}`;
  const WRONG: [string, unknown, string][] = [
    [
      "layout",
      { layout: "neox", frequencies: plain },
      'rotary.layout: expected "half-split" or "interleaved", got neox',
    ],
    ["no layout", { frequencies: plain }, 'rotary.layout: expected "half-split" or "interleaved", got undefined'],
    [
      "too many pairs",
      half(new Float64Array(65)),
      "rotary.frequencies.length: expected an integer from 0 to 64, got 65",
    ],
    ["NaN", half(Float64Array.of(1, Number.NaN)), `rotary.frequencies[1]: expected ${range}, got NaN`],
    ["infinity", half(Float64Array.of(-Infinity)), `rotary.frequencies[0]: expected ${range}, got -Infinity`],
    ["more than half a turn", half(Float64Array.of(1, 1, 3.2)), `rotary.frequencies[2]: expected ${range}, got 3.2`],
  ];

  it.each(WRONG)("refuses %s", async (_, rotary, message) => {
    const error = await failureOf(() => checkRotary(rotary as Rotary, 128));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe(message);
  });
});
