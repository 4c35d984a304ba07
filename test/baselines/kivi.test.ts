/** KIVI: groups along the right axis, half a step of error, every byte counted. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bitsPerElement } from "../../src/baselines/index.ts";
import { kivi } from "../../src/baselines/kivi.ts";
import { fromHalf } from "../../src/codec/half.ts";
import { noise } from "../support/noise.ts";

const KINDS = ["key", "value"] as const;
const BITS = [2, 4] as const;
const CASES = KINDS.flatMap((kind) => BITS.map((bits) => ({ kind, bits, baseline: kivi(kind, bits) })));

interface Shape {
  heads: number;
  tokens: number;
  headDim: number;
}

/** A tensor (heads, tokens, headDim) of what `value` says at each place. */
const tensorOf = ({ heads, tokens, headDim }: Shape, value: (h: number, t: number, d: number) => number) =>
  Float32Array.from({ length: heads * tokens * headDim }, (_, i) =>
    value(Math.floor(i / headDim / tokens), Math.floor(i / headDim) % tokens, i % headDim),
  );

/** The group of an element, as the paper has it: keys 32 tokens of a channel, values 32 channels of a token. */
const groupName = (kind: "key" | "value", h: number, t: number, d: number): string =>
  kind === "key" ? `${h} ${t >> 5} ${d}` : `${h} ${t} ${d >> 5}`;

describe("KIVI", () => {
  it("stores minimum, step and codes as the layout says", () => {
    // One channel, 32 tokens 0 … 31 but the last 30: minimum 0, step 30 / 3 = 10 (f16 0x4900).
    const shape = { heads: 1, tokens: 32, headDim: 1 };
    const values = tensorOf(shape, (_, t) => Math.min(t, 30));
    // Codes round(t / 10): five 0, ten 1, ten 2, seven 3, four a byte from the lowest bits up.
    const codes = [0b00000000, 0b01010100, 0b01010101, 0b10010101, 0b10101010, 0b10101010, 0b11111110, 0b11111111];
    const bytes = kivi("key", 2).encode(values, shape);
    expect([...bytes]).toEqual([0x00, 0x00, 0x00, 0x49, ...codes]);
    const levels = Array.from(values, (x) => 10 * Math.round(x / 10));
    expect([...kivi("key", 2).decode(bytes, shape)]).toEqual(levels);
    // The same numbers as 32 channels of one token are one group of values.
    expect([...kivi("value", 2).encode(values, { heads: 1, tokens: 1, headDim: 32 })]).toEqual([...bytes]);
  });

  it.each(CASES)("$kind $bits bit: exact where a group is constant, along its own axis only", ({ kind, baseline }) => {
    const shape = { heads: 2, tokens: 70, headDim: 40 };
    const constant = {
      key: tensorOf(shape, (h, t, d) => 100 * h + 7 * (t >> 5) + d / 4),
      value: tensorOf(shape, (h, t, d) => 100 * h + t / 4 + 9 * (d >> 5)),
    };
    const other = kind === "key" ? "value" : "key";
    expect(baseline.decode(baseline.encode(constant[kind], shape), shape)).toEqual(constant[kind]);
    expect(baseline.decode(baseline.encode(constant[other], shape), shape)).not.toEqual(constant[other]);
  });

  it.each(CASES)(
    "$kind $bits bit: errs by half a step of the group at most, in groups that are not full too",
    ({ kind, bits, baseline }) => {
      const shapes = fc.record({
        heads: fc.integer({ min: 1, max: 3 }),
        tokens: fc.constantFrom(1, 2, 31, 32, 33, 64, 70),
        headDim: fc.constantFrom(1, 31, 32, 33, 40, 64),
      });
      fc.assert(
        fc.property(
          shapes,
          fc.integer({ min: 1, max: 1e6 }),
          fc.double({ min: -8, max: 4, noNaN: true }),
          (shape, seed, log) => {
            const { heads, tokens, headDim } = shape;
            const values = noise(heads * tokens * headDim, seed).map((x) => x * 10 ** log);
            const ends = new Map<string, { low: number; high: number }>();
            const each = (work: (i: number, group: string) => void) => {
              tensorOf(shape, (h, t, d) => {
                work((h * tokens + t) * headDim + d, groupName(kind, h, t, d));
                return 0;
              });
            };
            each((i, group) => {
              const { low, high } = ends.get(group) ?? { low: Infinity, high: -Infinity };
              ends.set(group, { low: Math.min(low, values[i]), high: Math.max(high, values[i]) });
            });
            const decoded = baseline.decode(baseline.encode(values, shape), shape);
            each((i, group) => {
              const { low, high } = ends.get(group)!;
              const half = (high - low) / (2 ** bits - 1) / 2;
              // Minimum and step are rounded to f16: 2^-11 of each, of the step as often as the top code; 2^-24 near zero.
              const rounding = Math.abs(low) * 2 ** -11 + (high - low) * 2 ** -11 + 2 ** bits * 2 ** -24;
              expect(Math.abs(values[i] - decoded[i])).toBeLessThanOrEqual(half + rounding);
            });
          },
        ),
        { numRuns: 25 },
      );
    },
  );

  it.each(CASES)("$kind $bits bit: stores $bits bits and one for the group", ({ kind, bits, baseline }) => {
    const full = { heads: 3, tokens: 64, headDim: 96 };
    expect(bitsPerElement(baseline.encode(noise(3 * 64 * 96), full), full)).toBe(bits + 1);
    // A group that is not full costs as much as a full one.
    const tail = { heads: 1, tokens: 33, headDim: 33 };
    const bytes = baseline.encode(noise(33 * 33), tail);
    expect(bytes.length).toBe(2 * 33 * 4 + Math.ceil((33 * 33 * bits) / 8));
    expect(bitsPerElement(bytes, tail)).toBe((8 * bytes.length) / (33 * 33));
    expect(baseline.name).toBe(`${kind === "key" ? "K" : "V"} KIVI ${bits} bit, groups of 32`);
  });

  it("keeps a channel that is large for every token from the others, in keys", () => {
    const shape = { heads: 1, tokens: 64, headDim: 64 };
    const values = noise(64 * 64, 2);
    const outlier = values.map((x, i) => (i % 64 === 5 ? 1000 * x + 5000 : x));
    const errorOf = (kind: "key" | "value", tensor: Float32Array): number => {
      const decoded = kivi(kind, 4).decode(kivi(kind, 4).encode(tensor, shape), shape);
      return tensor.reduce((sum, x, i) => (i % 64 === 5 ? sum : sum + (x - decoded[i]) ** 2), 0);
    };
    expect(errorOf("key", outlier)).toBe(errorOf("key", values));
    expect(errorOf("value", outlier)).toBeGreaterThan(100 * errorOf("value", values));
  });

  it("holds ranges that f16 rounds to nothing, and the widest that fits", () => {
    const shape = { heads: 1, tokens: 1, headDim: 2 };
    for (const bits of BITS) {
      const baseline = kivi("value", bits);
      const pass = (a: number, b: number) => [...baseline.decode(baseline.encode(Float32Array.of(a, b), shape), shape)];
      expect(pass(1e-9, 2e-9)).toEqual([0, 0]);
      expect(pass(3, 3)).toEqual([3, 3]);
      expect(pass(-65504, 65504)[0]).toBe(-65504);
      expect(Math.abs(pass(-65504, 65504)[1] - 65504)).toBeLessThan(131008 * 2 ** -11);
    }
  });

  it("rounds codes against what it stored", () => {
    // Near 10 f16 has steps of 1/128, many times those of the codes.
    const shape = { heads: 1, tokens: 1, headDim: 32 };
    const values = noise(32, 9).map((x) => 10 + x * 0.02);
    const bytes = kivi("value", 4).encode(values, shape);
    const [minimum, step] = [fromHalf(bytes[0] | (bytes[1] << 8)), fromHalf(bytes[2] | (bytes[3] << 8))];
    const nearest = Array.from(
      values,
      (x) => minimum + step * Math.max(0, Math.min(15, Math.round((x - minimum) / step))),
    );
    expect([...kivi("value", 4).decode(bytes, shape)]).toEqual(nearest.map(Math.fround));
  });
});
