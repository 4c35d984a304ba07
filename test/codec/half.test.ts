/** Halves: every one of the 65536 round trips, and rounding agrees with the definition, searched among all halves. */
import { describe, expect, it } from "vitest";
import { fromHalf, toHalf } from "../../src/codec/half.ts";

/** Value of a finite half by the definition: (-1)^s * 2^(e - 15) * 1.f, or 2^-14 * 0.f. */
function definition(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const significand = exponent ? 1024 + (bits & 1023) : bits & 1023;
  return (bits & 0x8000 ? -1 : 1) * significand * 2 ** (Math.max(exponent, 1) - 25);
}

/** Positive finite halves, rising: bits are their own order. */
const POSITIVE = Array.from({ length: 0x7c00 }, (_, bits) => definition(bits));

/** Nearest half of a positive number by bisection, ties to even; 2^16 takes the place of infinity. */
function nearest(x: number): number {
  let low = 0;
  let high = POSITIVE.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (POSITIVE[middle] < x) low = middle + 1;
    else high = middle;
  }
  if (low === 0) return 0;
  const above = (low < POSITIVE.length ? POSITIVE[low] : 65536) - x;
  const below = x - POSITIVE[low - 1];
  if (above === below) return low % 2 ? low - 1 : low;
  return above < below ? low : low - 1;
}

describe("half", () => {
  it("reads every half as defined and writes it back", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = fromHalf(bits);
      if ((bits & 0x7c00) === 0x7c00) {
        const special = bits & 1023 ? Number.NaN : bits & 0x8000 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
        if (!Object.is(value, special)) expect(value, `bits ${bits}`).toBe(special);
        if (toHalf(value) !== (bits & 1023 ? 0x7e00 : bits)) expect.fail(`bits ${bits} come back as ${toHalf(value)}`);
        continue;
      }
      if (!Object.is(value, definition(bits))) expect.fail(`bits ${bits}: ${value}, expected ${definition(bits)}`);
      if (toHalf(value) !== bits) expect.fail(`bits ${bits} come back as ${toHalf(value)}`);
    }
  });

  it("rounds every midpoint to even, and its neighbours up and down", () => {
    for (let bits = 0; bits < 0x7bff; bits++) {
      const middle = (POSITIVE[bits] + POSITIVE[bits + 1]) / 2;
      const got = [toHalf(middle * (1 - 2 ** -52)), toHalf(middle), toHalf(middle * (1 + 2 ** -52)), toHalf(-middle)];
      const even = bits % 2 ? bits + 1 : bits;
      const expected = [bits, even, bits + 1, even | 0x8000];
      if (got.join() !== expected.join()) expect.fail(`above half ${bits}: ${got}, expected ${expected}`);
    }
  });

  it("agrees with the definition on random numbers of every size", () => {
    let state = 12345;
    const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    for (let i = 0; i < 100_000; i++) {
      const x = (1 + random()) * 2 ** Math.floor(random() * 46 - 29);
      if (toHalf(x) !== nearest(x)) expect.fail(`${x}: ${toHalf(x)}, expected ${nearest(x)}`);
    }
  });

  it("handles overflow, underflow, signs, NaN and single rounding", () => {
    expect(toHalf(65519.999)).toBe(0x7bff);
    expect(toHalf(65520)).toBe(0x7c00);
    expect(toHalf(-1e300)).toBe(0xfc00);
    expect(toHalf(2 ** -25)).toBe(0);
    expect(toHalf(2 ** -25 * 1.0001)).toBe(1);
    expect(toHalf(5e-324)).toBe(0);
    expect(toHalf(-0)).toBe(0x8000);
    expect(toHalf(Number.NaN)).toBe(0x7e00);
    // Through f32 this would first become a tie, then round to even: 1.
    expect(toHalf(1 + 2 ** -11 + 2 ** -40)).toBe(0x3c01);
  });
});
