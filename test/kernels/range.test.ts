import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { MODEL, modelCount, RANGE_LEAST, RANGE_TOTAL, rangeBytes, rangeScratchBytes } from "../../src/codec/layout.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { expectSame, sameBits } from "../support/exact.ts";
import { PLATFORMS } from "../support/platforms.ts";

const GAP = 0xee;

/** (wide + narrow, stride) codes, `tokens` of each channel. */
interface Codes {
  wide: number;
  narrow: number;
  tokens: number;
  stride: number;
  codes: Uint8Array;
}

/** Codes about the middle of their range, closely (`spread` small) or over all of it (1). */
function codesOf(wide: number, narrow: number, tokens: number, spread: number, seed = 1, gap = 0): Codes {
  const stride = tokens + gap;
  const codes = Uint8Array.from(noise((wide + narrow) * stride, seed), (x, i) => {
    if (i % stride >= tokens) return GAP;
    const half = i < wide * stride ? 128 : 8;
    return Math.floor(half + Math.min(half - 1e-9, half * spread) * x * Math.abs(x));
  });
  return { wide, narrow, tokens, stride, codes };
}

function encoded(runtime: Runtime, arena: Arena, { wide, narrow, tokens, stride, codes }: Codes, modelsPtr: number) {
  const most = rangeBytes(wide, narrow, tokens);
  const [codesPtr, outPtr, scratchPtr] = [
    arena.put(codes),
    arena.out(most),
    arena.out(rangeScratchBytes(wide, narrow, tokens)),
  ];
  const count = runtime.kernels.encodeRange(outPtr, scratchPtr, modelsPtr, codesPtr, wide, narrow, tokens, stride);
  return arena.u8(outPtr + most - count, count);
}

function decoded(runtime: Runtime, arena: Arena, bytes: Uint8Array, shape: Omit<Codes, "codes">, modelsPtr: number) {
  const { wide, narrow, tokens, stride } = shape;
  const [bytesPtr, codesPtr] = [arena.put(bytes), arena.put(new Uint8Array((wide + narrow) * stride).fill(GAP))];
  const status = runtime.kernels.decodeRange(
    codesPtr, modelsPtr, bytesPtr, bytes.length, wide, narrow, tokens, stride,
  ); // biome-ignore format: in the order of the kernel
  return { status, codes: arena.u8(codesPtr, (wide + narrow) * stride) };
}

function freshModels(runtime: Runtime, arena: Arena, { wide, narrow }: Pick<Codes, "wide" | "narrow">): number {
  const ptr = arena.out(MODEL.bytes * modelCount(wide, narrow));
  runtime.kernels.resetModels(ptr, modelCount(wide, narrow));
  return ptr;
}

/** Frequencies of a model in linear memory: (16). */
function frequencies(arena: Arena, modelPtr: number): number[] {
  const below = [...arena.u16(modelPtr, 16), RANGE_TOTAL];
  return below.slice(1).map((next, i) => next - below[i]);
}

/** Bits that nibbles of these counts need at least. */
const entropyOf = (counts: number[]): number => {
  const total = counts.reduce((a, b) => a + b, 0);
  return counts.reduce((bits, n) => (n ? bits - n * Math.log2(n / total) : bits), 0);
};

describe.each(PLATFORMS)("range coder on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  const roundTrip = (input: Codes) =>
    withArena(runtime, (arena) => {
      const bytes = encoded(runtime, arena, input, freshModels(runtime, arena, input));
      return { bytes, ...decoded(runtime, arena, bytes, input, freshModels(runtime, arena, input)) };
    });

  it("gives codes back, the gaps left alone", () => {
    const shape = fc.record({
      wide: fc.integer({ min: 0, max: 3 }),
      narrow: fc.integer({ min: 0, max: 5 }),
      tokens: fc.integer({ min: 0, max: 70 }),
      spread: fc.constantFrom(0, 0.05, 0.3, 1),
      gap: fc.constantFrom(0, 3),
      seed: fc.integer({ min: 1, max: 1000 }),
    });
    const check = ({ wide, narrow, tokens, spread, gap, seed }: Record<string, number>) => {
      const input = codesOf(wide, narrow, tokens, spread, seed, gap);
      const { status, codes } = roundTrip(input);
      expect(status).toBe(0);
      expectSame(codes, input.codes);
    };
    fc.assert(fc.property(shape as never, check as never), { numRuns: 40 });
  });

  it("takes little more than the entropy of the codes", () => {
    const input = codesOf(0, 2, 1500, 0.4);
    const counts = [0, 1].map((c) => {
      const of = new Array<number>(16).fill(0);
      for (const code of input.codes.subarray(c * input.stride, c * input.stride + input.tokens)) of[code]++;
      return of;
    });
    const least = entropyOf(counts[0]) + entropyOf(counts[1]);
    const { bytes } = roundTrip(input);
    expect(8 * (bytes.length - 16)).toBeGreaterThan(0.97 * least);
    expect(8 * (bytes.length - 16)).toBeLessThan(1.04 * least + 100);
  });

  it("goes on where the models were left", () => {
    const [first, second] = [codesOf(1, 3, 40, 0.3, 5), codesOf(1, 3, 33, 0.3, 6)];
    withArena(runtime, (arena) => {
      const [writing, reading] = [freshModels(runtime, arena, first), freshModels(runtime, arena, first)];
      for (const part of [first, second]) {
        const bytes = encoded(runtime, arena, part, writing);
        const { status, codes } = decoded(runtime, arena, bytes, part, reading);
        expect(status).toBe(0);
        expectSame(codes, part.codes);
      }
    });
  });

  it("keeps every frequency at the least or above, and their sum", () => {
    withArena(runtime, (arena) => {
      const one = { wide: 0, narrow: 1 };
      for (const code of [0, 7, 15]) {
        const modelsPtr = freshModels(runtime, arena, one);
        // The same code for long, then any codes.
        const codes = Uint8Array.from(noise(1200, code + 1), (x, i) => (i < 600 ? code : Math.floor(8 + 7.99 * x)));
        for (let at = 0; at < codes.length; at += 100) {
          const part = { ...one, tokens: 100, stride: 100, codes: codes.subarray(at, at + 100) };
          encoded(runtime, arena, part, modelsPtr);
          const all = frequencies(arena, modelsPtr);
          expect(Math.min(...all), `after ${at + 100} codes from ${code}`).toBeGreaterThanOrEqual(RANGE_LEAST);
          expect(all.reduce((a, b) => a + b, 0)).toBe(RANGE_TOTAL);
          if (at === 500) expect(all[code]).toBeGreaterThan(0.97 * RANGE_TOTAL);
        }
      }
    });
  });

  it("refuses bytes that are no range code of so many tokens", () => {
    const input = codesOf(1, 2, 60, 0.3);
    const { bytes } = roundTrip(input);
    const read = (given: Uint8Array, shape: Omit<Codes, "codes"> = input) =>
      withArena(runtime, (arena) => decoded(runtime, arena, given, shape, freshModels(runtime, arena, shape)));
    const statusOf = (...args: Parameters<typeof read>): number => read(...args).status;
    expect(statusOf(bytes)).toBe(0);
    expect(statusOf(bytes.subarray(0, 15)), "no room for states").toBe(-1);
    expect(statusOf(bytes.subarray(0, bytes.length - 2)), "cut").toBe(-1);
    expect(statusOf(Uint8Array.from([...bytes, 0, 0])), "longer").toBe(-1);
    expect(statusOf(bytes, { ...input, tokens: 61, stride: 61 }), "of fewer tokens").toBe(-1);
    expect(statusOf(new Uint8Array(bytes.length)), "zeros").toBe(-1);
    // Some of these are the range code of other codes; of the same codes there is one only.
    let refused = 0;
    for (let bit = 0; bit < 8 * bytes.length; bit += 7) {
      const damaged = bytes.slice();
      damaged[bit >> 3] ^= 1 << (bit & 7);
      const { status, codes } = read(damaged);
      if (status === -1) refused++;
      else expect(codes, `bit ${bit} flipped`).not.toEqual(input.codes);
    }
    expect(refused / Math.ceil((8 * bytes.length) / 7)).toBeGreaterThan(0.95);
  });
});

describe("range coder everywhere", () => {
  it("makes the same bytes, models and codes as the twins", async () => {
    const same = await sameBits();
    for (const [wide, narrow, tokens, spread] of [
      [0, 0, 5, 1],
      [0, 1, 1, 1],
      [1, 0, 300, 1],
      [2, 7, 257, 0.1],
      [3, 4, 400, 0.5],
    ]) {
      const input = codesOf(wide, narrow, tokens, spread, wide + tokens, 2);
      same((runtime, arena) => {
        const [writing, reading] = [freshModels(runtime, arena, input), freshModels(runtime, arena, input)];
        const bytes = encoded(runtime, arena, input, writing);
        const { status, codes } = decoded(runtime, arena, bytes, input, reading);
        const size = MODEL.bytes * modelCount(wide, narrow);
        // What lies behind a model's count is nobody's.
        const known = (ptr: number) => arena.u8(ptr, size).filter((_, i) => i % MODEL.bytes < MODEL.seen + 2);
        return [bytes, [status], codes, known(writing), known(reading)];
      });
    }
  });

  it("gives the same answer for any bytes", async () => {
    const same = await sameBits();
    for (let seed = 1; seed < 40; seed++) {
      const shape = { wide: seed % 3, narrow: seed % 4, tokens: seed, stride: seed };
      const bytes = Uint8Array.from(noise(16 + 2 * (seed % 30), seed), (x) => 128 + 128 * x);
      same((runtime, arena) => [[decoded(runtime, arena, bytes, shape, freshModels(runtime, arena, shape)).status]]);
    }
  });
});
