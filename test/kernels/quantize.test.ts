import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { BOOK } from "../../src/codec/layout.ts";
import { LLOYD_MAX } from "../../src/codec/lloyd-max.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { Arena, noise, withArena } from "../support/arena.ts";
import { expectSame, sameBits } from "../support/exact.ts";
import { PLATFORMS, SIZES } from "../support/platforms.ts";

type Bits = 1 | 2 | 4 | 8;
const BITS: readonly Bits[] = [1, 2, 4, 8];

/** What a book is made from; level[i] = offset + scale * unit[i]. */
interface Book {
  bits: Bits;
  unit: Float32Array;
  scale: number;
  offset: number;
}

const evenUnit = (bits: Bits): Float32Array =>
  Float32Array.from({ length: 2 ** bits }, (_, i) => (2 * i + 1) / 2 ** bits - 1);
const normalUnit = (bits: Bits): Float32Array =>
  bits === 8 ? evenUnit(8) : Float32Array.from(LLOYD_MAX[bits].centroids);
const bookOf = (bits: Bits, scale = 1, offset = 0): Book => ({ bits, unit: normalUnit(bits), scale, offset });

/** Address of the prepared book. */
function prepared(runtime: Runtime, arena: Arena, { bits, unit, scale, offset }: Book): number {
  const bookPtr = arena.out(BOOK.bytes);
  runtime.kernels.prepareBook(bookPtr, arena.put(unit), bits, scale, offset);
  return bookPtr;
}

const levelsAt = (arena: Arena, bookPtr: number, bits: Bits): Float32Array =>
  arena.f32(bookPtr + BOOK.levels, 2 ** bits);
const thresholdsAt = (arena: Arena, bookPtr: number, bits: Bits): Float32Array =>
  arena.f32(bookPtr + BOOK.thresholds, 2 ** bits - 1);

/** Everything that the kernels say about `values`, every `stride`-th for the error. */
function quantized(runtime: Runtime, arena: Arena, book: Book, values: Float32Array, stride = 1) {
  const { kernels } = runtime;
  const { bits } = book;
  const count = values.length;
  const bookPtr = prepared(runtime, arena, book);
  const [codesPtr, backPtr, extremesPtr] = [arena.out(count), arena.out(4 * count), arena.out(8)];
  const valuesPtr = arena.putAtEnd(values);
  kernels.encode(codesPtr, bookPtr, valuesPtr, count, bits);
  kernels.decode(backPtr, bookPtr, codesPtr, count, bits);
  const probed = Math.ceil(count / stride);
  return {
    levels: levelsAt(arena, bookPtr, bits),
    thresholds: thresholdsAt(arena, bookPtr, bits),
    codes: arena.u8(codesPtr, count),
    back: arena.f32(backPtr, count),
    error: kernels.bookError(bookPtr, valuesPtr, probed, stride, bits),
    squares: count ? kernels.channelStatistics(extremesPtr, valuesPtr, count) : 0,
    extremes: arena.f32(extremesPtr, count ? 2 : 0),
  };
}

/** The same as lists of numbers, to compare. */
function results(
  runtime: Runtime,
  arena: Arena,
  book: Book,
  values: Float32Array,
  stride: number,
): ArrayLike<number>[] {
  const got = quantized(runtime, arena, book, values, stride);
  return [got.levels, got.thresholds, got.codes, got.back, got.extremes, [got.error, got.squares]];
}

const sumOf = (values: Iterable<number>): number => Array.from(values).reduce((sum, x) => sum + x, 0);

function countBelow(thresholds: Float32Array, x: number): number {
  let count = 0;
  for (const threshold of thresholds) count += Number(threshold < x);
  return count;
}

/** By the contract. Sums are free to differ in the last bits of f64; a difference from a level is rounded to f32. */
function expectDefinition(values: Float32Array, stride: number, got: ReturnType<typeof quantized>): void {
  const codes = Uint8Array.from(values, (x) => countBelow(got.thresholds, x));
  expectSame(got.codes, codes, "codes");
  expectSame(
    got.back,
    Float32Array.from(codes, (code) => got.levels[code]),
    "decoded",
  );
  const errors = values.filter((_, i) => i % stride === 0).map((x, i) => x - got.levels[codes[i * stride]]);
  const squared = sumOf(Array.from(errors, (x) => x * x));
  expect(Math.abs(got.error - squared)).toBeLessThanOrEqual(1e-12 * squared);
  if (values.length === 0) return;
  const squares = sumOf(Array.from(values, (x) => x * x));
  expect(Math.abs(got.squares - squares)).toBeLessThanOrEqual(1e-12 * squares);
  expect(Array.from(got.extremes)).toEqual([Math.min(...values), Math.max(...values)]);
}

/** The next f32 above a finite one. */
function above(x: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, x);
  view.setInt32(0, x === 0 ? 1 : view.getInt32(0) + (x > 0 ? 1 : -1));
  return view.getFloat32(0);
}

const DENORMAL = 2 ** -149;

/** Inputs that break careless arithmetic. */
const EDGES: [string, Float32Array][] = [
  ["zeros of both signs", Float32Array.of(0, -0, 0, 0, -0, 0, 0)],
  ["a constant channel", new Float32Array(9).fill(-1.7)],
  ["one huge outlier", noise(33, 3).map((x, i) => (i === 20 ? 1e30 : x))],
  ["denormals", noise(17, 4).map((x) => x * 1e-40)],
  ["the least denormals", Float32Array.of(DENORMAL, -DENORMAL, 0, 2 * DENORMAL, DENORMAL)],
  ["the greatest numbers", noise(21, 5).map((x) => (x < 0 ? -1 : 1) * 1.7e38)],
];

interface Steps {
  step: number;
  rounding: number;
  zero: number;
  last: number;
}

function inSteps(runtime: Runtime, arena: Arena, values: Float32Array, { step, rounding, zero, last }: Steps) {
  const [codesPtr, sumsPtr] = [arena.out(values.length), arena.out(16)];
  const valuesPtr = arena.putAtEnd(values);
  runtime.kernels.encodeSteps(codesPtr, sumsPtr, valuesPtr, values.length, step, rounding, zero, last);
  return { codes: arena.u8(codesPtr, values.length), sums: arena.f64(sumsPtr, 2) };
}

describe.each(PLATFORMS)("quantize on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });
  const run = (book: Book, values: Float32Array, stride = 1) =>
    withArena(runtime, (arena) => quantized(runtime, arena, book, values, stride));

  it.each(BITS)("places levels and the thresholds halfway: %i bits", (bits) => {
    for (const [scale, offset] of [
      [1, 0],
      [0.37, -12],
      [1e-42, 0],
      [1e30, 1e30],
    ]) {
      const book = bookOf(bits, Math.fround(scale), Math.fround(offset));
      const { levels, thresholds } = run(book, new Float32Array(0));
      const close = (x: number, unit: number): void => {
        const exact = book.offset + book.scale * unit;
        const size = Math.abs(book.offset) + Math.abs(book.scale * unit);
        expect(Math.abs(x - exact)).toBeLessThanOrEqual(2 ** -23 * size + DENORMAL);
      };
      for (const [i, x] of levels.entries()) close(x, book.unit[i]);
      thresholds.forEach((x, i) => {
        close(x, (book.unit[i] + book.unit[i + 1]) / 2);
        expect(x >= levels[i] && x <= levels[i + 1], "between its neighbours").toBe(true);
      });
    }
  });

  it.each(BITS)("writes nothing past the levels and the thresholds: %i bits", (bits) => {
    withArena(runtime, (arena) => {
      const bytes = arena.u8(prepared(runtime, arena, bookOf(bits)), BOOK.bytes);
      const free = [
        ...bytes.slice(4 * 2 ** bits, BOOK.thresholds),
        ...bytes.slice(BOOK.thresholds + 4 * 2 ** bits - 4),
      ];
      expect(free.every((x) => x === 0xee)).toBe(true);
    });
  });

  it.each(BITS)("codes, decodes and measures as defined at every size and stride: %i bits", (bits) => {
    for (const count of SIZES) {
      for (const stride of [1, 3]) {
        const values = noise(count, count + stride).map((x) => 3 * x);
        expectDefinition(values, stride, run(bookOf(bits, 0.9, 0.1), values, stride));
      }
    }
  });

  it.each(BITS)("a value on a threshold takes the lower code, the next number above it the upper: %i bits", (bits) => {
    for (const offset of [0, 5]) {
      const book = bookOf(bits, 1, offset);
      const { thresholds } = run(book, new Float32Array(0));
      const all = Array.from(thresholds, (_, i) => i);
      expect(Array.from(run(book, thresholds).codes)).toEqual(all);
      expect(Array.from(run(book, thresholds.map(above)).codes)).toEqual(all.map((i) => i + 1));
    }
  });

  it.each(BITS)("levels are fixed points: they code without error, to themselves: %i bits", (bits) => {
    const book = bookOf(bits, 2.5, -1);
    const { levels } = run(book, new Float32Array(0));
    const { codes, back, error } = run(book, levels);
    expect(Array.from(codes)).toEqual(Array.from(levels, (_, i) => i));
    expect(back).toEqual(levels);
    expect(error).toBe(0);
  });

  it.each(EDGES)("takes %s", (_, values) => {
    const [least, greatest] = [Math.min(...values), Math.max(...values)];
    for (const bits of BITS) {
      const scale = Math.fround(greatest / 2 - least / 2);
      const book = { bits, unit: evenUnit(bits), scale, offset: Math.fround(greatest / 2 + least / 2) };
      const got = run(book, values, 2);
      expectDefinition(values, 2, got);
      // Even steps of 2 * scale / 2^bits, so half of one at most, and the roundings of a level.
      const bound = scale / 2 ** bits + 2 ** -22 * Math.max(-least, greatest) + DENORMAL;
      values.forEach((x, i) => {
        expect(Math.abs(x - got.back[i])).toBeLessThanOrEqual(bound);
      });
    }
  });

  it("a book without width gives the constant channel back exactly", () => {
    const values = new Float32Array(13).fill(Math.fround(0.1));
    for (const bits of BITS) {
      const { codes, back, error } = run(bookOf(bits, 0, values[0]), values);
      expect(codes.every((code) => code === 0)).toBe(true);
      expect(back).toEqual(values);
      expect(error).toBe(0);
    }
  });

  it("even steps have a dead zone, equal signs, ends, and the sums of a least-squares level", () => {
    withArena(runtime, (arena) => {
      const values = Float32Array.of(0, 0.59, 0.6, -0.61, -1.59, 1.61, 2.7, -2.7, 40, -40, -0);
      const { codes, sums } = inSteps(runtime, arena, values, { step: 1, rounding: 0.4, zero: 3, last: 6 });
      expect(Array.from(codes)).toEqual([3, 3, 4, 2, 2, 5, 6, 0, 6, 0, 3]);
      const q = Array.from(codes, (code) => code - 3);
      expect(sums[0]).toBeCloseTo(
        q.reduce((sum, n, i) => sum + n * values[i], 0),
        4,
      );
      expect(sums[1]).toBe(q.reduce((sum, n) => sum + n * n, 0));
    });
  });

  it("extremes of one value are that value", () => {
    expect(Array.from(run(bookOf(1), Float32Array.of(-3)).extremes)).toEqual([-3, -3]);
  });
});

describe("quantize everywhere", () => {
  it("gives the same bits as its twins on edge inputs, sizes and strides", async () => {
    const same = await sameBits();
    const inputs = [...EDGES.map(([, values]) => values), ...SIZES.map((count) => noise(count, count + 1))];
    for (const bits of BITS) {
      for (const values of inputs) {
        for (const stride of [1, 3])
          same((runtime, arena) => results(runtime, arena, bookOf(bits, 0.7, 0.1), values, stride));
      }
    }
  });

  it("gives the same bits for any book and any values", async () => {
    const same = await sameBits();
    const limits = { noNaN: true, noDefaultInfinity: true, min: -(2 ** 60), max: 2 ** 60 };
    const anyInput = [
      fc.constantFrom(...BITS),
      fc.float({ ...limits, min: 0 }),
      fc.float(limits),
      fc.float32Array({ ...limits, maxLength: 70 }),
      fc.integer({ min: 1, max: 9 }),
    ] as const;
    const property = fc.property(...anyInput, (bits, scale, offset, values, stride) => {
      same((runtime, arena) => results(runtime, arena, bookOf(bits, scale, offset), values, stride));
    });
    fc.assert(property, { numRuns: 200 });
  });

  it("gives the same bits for even steps", async () => {
    const same = await sameBits();
    for (const count of SIZES) {
      for (const [step, zero, last] of [
        [0.3, 1, 3],
        [0.07, 7, 15],
        [1e-4, 127, 255],
        [3e20, 7, 15],
      ]) {
        for (const rounding of [0, 0.4, 0.5]) {
          same((runtime, arena) => {
            const { codes, sums } = inSteps(runtime, arena, noise(count, count + last), { step, rounding, zero, last });
            return [codes, sums];
          });
        }
      }
    }
  });

  it("the debug module refuses a code past its book", async () => {
    const runtime = await PLATFORMS[1].create();
    const arena = new Arena(runtime);
    const [bookPtr, outPtr] = [prepared(runtime, arena, bookOf(2)), arena.out(16)];
    const decode = (code: number) => () =>
      runtime.kernels.decode(outPtr, bookPtr, arena.put(Uint8Array.of(3, 0, code, 1)), 4, 2);
    expect(decode(4)).toThrow(/decode: a code past the book/);
    expect(decode(3)).not.toThrow();
    arena.finish();
  });
});
