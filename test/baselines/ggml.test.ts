/** ggml's blocks byte for byte, worked by hand from quantize_row_q8_0_ref and quantize_row_q4_0_ref. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ggml } from "../../src/baselines/ggml.ts";
import { bitsPerElement } from "../../src/baselines/index.ts";
import { fromHalf } from "../../src/codec/half.ts";
import { UnsupportedError } from "../../src/errors.ts";
import { failureOf } from "../support/failure.ts";
import { noise } from "../support/noise.ts";

const BLOCK = { heads: 1, tokens: 1, headDim: 32 };
const q8 = ggml("key", "q8_0");
const q4 = ggml("value", "q4_0");

/** 32 values: those given, then zeros. */
const block = (...values: number[]): Float32Array => Float32Array.from({ length: 32 }, (_, i) => values[i] ?? 0);

const signed = (bytes: Uint8Array): number[] => [...new Int8Array(bytes.slice().buffer)];

describe("q8_0", () => {
  it("rounds halves away from zero against d = 1", () => {
    // Largest 127, so d = 1 (f16 0x3c00, little-endian).
    const values = [-127, 126.5, 126.4, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 0.49, -0.49, 100];
    const bytes = q8.encode(block(...values), BLOCK);
    expect([...bytes.subarray(0, 2)]).toEqual([0x00, 0x3c]);
    expect(signed(bytes.subarray(2, 14))).toEqual([-127, 127, 126, 1, -1, 2, -2, 3, -3, 0, 0, 100]);
    expect([...bytes.subarray(14)]).toEqual(new Array(20).fill(0));
    expect([...q8.decode(bytes, BLOCK).subarray(0, 5)]).toEqual([-127, 127, 126, 1, -1]);
  });

  it("chooses codes against d before it is rounded to f16", () => {
    // d = 1/127 = 0.00787402 = 2^-7 * 1.007874, in f16 2^-7 * (1 + 8/1024): bits 8 << 10 | 8.
    const bytes = q8.encode(block(1, 0.25, -0.75), BLOCK);
    expect([...bytes.subarray(0, 2)]).toEqual([0x08, 0x20]);
    expect(signed(bytes.subarray(2, 5))).toEqual([127, 32, -95]);
    const d = (1 + 8 / 1024) / 128;
    expect([...q8.decode(bytes, BLOCK).subarray(0, 3)]).toEqual([127 * d, 32 * d, -95 * d].map(Math.fround));
    // d = 1000/127 = 7.8740 is 7.8750 in f16: against that, 311 would be code 39.49.
    const far = q8.encode(block(1000, 311), BLOCK);
    expect([...far.subarray(0, 2)]).toEqual([0xe0, 0x47]);
    expect(signed(far.subarray(2, 4))).toEqual([127, 39]);
    // 39.5 * 7.8740 = 311.02: just above it the two differ.
    expect(signed(q8.encode(block(1000, 311.04), BLOCK).subarray(2, 4))).toEqual([127, 40]);
  });

  it("holds a block of zeros, and of numbers whose d has no inverse", () => {
    expect([...q8.encode(block(), BLOCK)]).toEqual(new Array(34).fill(0));
    expect([...q8.encode(block(1e-44, -1e-44), BLOCK)]).toEqual(new Array(34).fill(0));
  });
});

describe("q4_0", () => {
  it("puts value i in the low and value i + 16 in the high nibble, the signed maximum at code 0", () => {
    // Maximum -8, so d = 1: code = trunc(x + 8.5), at most 15.
    const low = [-8, 7, 0, 0.49, 0.5, -0.5, -0.51, 7.9, -7.4, -7.6];
    const high = [1, 2, 3];
    const values = block();
    values.set(low);
    values.set(high, 16);
    const bytes = q4.encode(values, BLOCK);
    expect([...bytes.subarray(0, 2)]).toEqual([0x00, 0x3c]);
    expect([...bytes.subarray(2, 12)].map((byte) => byte & 15)).toEqual([0, 15, 8, 8, 9, 8, 7, 15, 1, 0]);
    expect([...bytes.subarray(2, 6)].map((byte) => byte >> 4)).toEqual([9, 10, 11, 8]);
    const decoded = q4.decode(bytes, BLOCK);
    expect([...decoded.subarray(0, 10)]).toEqual([-8, 7, 0, 0, 1, 0, -1, 7, -7, -8]);
    expect([...decoded.subarray(16, 20)]).toEqual([1, 2, 3, 0]);
  });

  it("has a negative d where the largest is positive; of two as large the first decides", () => {
    const bytes = q4.encode(block(8, -7, -8), BLOCK);
    expect([...bytes.subarray(0, 2)]).toEqual([0x00, 0xbc]);
    expect([...bytes.subarray(2, 5)].map((byte) => byte & 15)).toEqual([0, 15, 15]);
    expect([...q4.decode(bytes, BLOCK).subarray(0, 3)]).toEqual([8, -7, -7]);
  });

  it("holds a block of zeros as ggml does: d is -0, every code 8", () => {
    const bytes = q4.encode(block(), BLOCK);
    expect([...bytes]).toEqual([0x00, 0x80, ...new Array(16).fill(0x88)]);
    expect([...q4.decode(bytes, BLOCK)].every((x) => x === 0)).toBe(true);
    // d has no inverse in f32, and is -0 in f16.
    expect(q4.encode(block(1e-44, -1e-45), BLOCK)).toEqual(bytes);
  });
});

describe.each([
  { type: "q8_0", baseline: ggml("key", "q8_0"), bits: 8.5, levels: 254 },
  { type: "q4_0", baseline: ggml("key", "q4_0"), bits: 4.5, levels: 16 },
] as const)("ggml $type", ({ type, baseline, bits, levels }) => {
  it(`stores ${bits} bits an element`, () => {
    for (const shape of [BLOCK, { heads: 3, tokens: 5, headDim: 96 }]) {
      const { heads, tokens, headDim } = shape;
      const bytes = baseline.encode(noise(heads * tokens * headDim), shape);
      expect(bitsPerElement(bytes, shape)).toBe(bits);
    }
    expect(bitsPerElement(baseline.encode(new Float32Array(0), { ...BLOCK, tokens: 0 }), { ...BLOCK, tokens: 0 })).toBe(
      0,
    );
  });

  it("codes each block alone, in order", () => {
    const shape = { heads: 2, tokens: 3, headDim: 64 };
    const values = noise(384, 5).map((x, i) => x * (1 + Math.floor(i / 32)));
    const bytes = baseline.encode(values, shape);
    const size = bytes.length / 12;
    for (let b = 0; b < 12; b++) {
      const alone = baseline.encode(values.slice(32 * b, 32 * b + 32), BLOCK);
      expect(bytes.subarray(b * size, (b + 1) * size)).toEqual(alone);
      expect(baseline.decode(bytes, shape).slice(32 * b, 32 * b + 32)).toEqual(baseline.decode(alone, BLOCK));
    }
  });

  it("errs by half a step at most, and by one where q4_0 has no code: opposite to the signed maximum", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e6 }), fc.double({ min: 1e-3, max: 6e4, noNaN: true }), (seed, size) => {
        const values = noise(32, seed).map((x) => x * size);
        const largest = values.reduce((top, x) => (Math.abs(x) > Math.abs(top) ? x : top), 0);
        const step = (2 * Math.abs(largest)) / levels;
        // d in f16: 2^-11 of it, 2^-25 where it is subnormal, as often as the code says.
        const rounding = Math.abs(largest) * 2 ** -11 + (levels / 2) * 2 ** -25;
        const decoded = baseline.decode(baseline.encode(values, BLOCK), BLOCK);
        values.forEach((x, i) => {
          const noCode = type === "q4_0" && -x * Math.sign(largest) > 7.5 * step;
          expect(Math.abs(x - decoded[i])).toBeLessThanOrEqual((noCode ? step : step / 2) + rounding);
        });
      }),
    );
  });

  it("refuses what has no place in it", async () => {
    const odd = await failureOf(() => baseline.encode(noise(48), { heads: 1, tokens: 1, headDim: 48 }));
    expect(odd).toBeInstanceOf(UnsupportedError);
    expect(odd.message).toBe("shape.headDim: ggml blocks need a multiple of 32, got 48");
  });
});

it("gives back the d that it stored", () => {
  const bytes = q8.encode(
    noise(32, 3).map((x) => x * 40),
    BLOCK,
  );
  const d = fromHalf(bytes[0] | (bytes[1] << 8));
  const codes = signed(bytes.subarray(2));
  expect([...q8.decode(bytes, BLOCK)]).toEqual(codes.map((code) => Math.fround(code * d)));
});
