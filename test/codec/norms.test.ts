/** Norms in one byte: a bounded relative error, zeros kept, whatever the range. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { codeNorms, normLevels } from "../../src/codec/norms.ts";

function decoded(norms: Float32Array): Float32Array {
  const coded = codeNorms(norms);
  const levels = normLevels(coded);
  return Float32Array.from(coded.codes, (code) => levels[code]);
}

const ratioOf = (norms: Float32Array): number => {
  const positive = norms.filter((x) => x > 0);
  return Math.max(...positive) / Math.min(...positive);
};

describe("norms in a byte", () => {
  it("err by half of one of 254 steps at most, where they span 2^16 or less", () => {
    const sizes = fc.tuple(fc.double({ min: -30, max: 30, noNaN: true }), fc.double({ min: 0, max: 16, noNaN: true }));
    fc.assert(
      fc.property(
        sizes,
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 60 }),
        ([low, range], places) => {
          const norms = Float32Array.from(places, (place) => 2 ** (low + range * place));
          // The step that the range asks for, and 1 % of it for what codeNorms adds; 1e-6 for f32.
          const halfStep = Math.expm1((Math.log(ratioOf(norms)) / 254 / 2) * 1.02) + 1e-6;
          decoded(norms).forEach((x, i) => {
            expect(Math.abs(x / norms[i] - 1)).toBeLessThanOrEqual(halfStep);
          });
        },
      ),
      // A step of few f32 ulps, whose rounding adds up over the levels.
      {
        examples: [
          [
            [0, 14.188525885500358],
            [0.0000247788734824737, 0],
          ],
        ],
      },
    );
  });

  it("are 2.3 % off at most for real ranges, whatever else is there", () => {
    const norms = Float32Array.of(0, 1e-30, 1, 3.3, 17, 65000, 0.999);
    const got = decoded(norms);
    norms.forEach((norm, i) => {
      if (norm >= 65000 * 2 ** -16) expect(Math.abs(got[i] / norm - 1)).toBeLessThan(0.023);
    });
    // Below 2^-16 of the greatest all share the lowest level, which is no zero.
    expect(got[1]).toBeGreaterThan(0);
    expect(Math.abs(got[1] / (65000 * 2 ** -16) - 1)).toBeLessThan(0.05);
  });

  it("keep zeros, and only those", () => {
    const coded = codeNorms(Float32Array.of(0, 5, 0, 1e-38));
    expect([...coded.codes].map((code) => code === 0)).toEqual([true, false, true, false]);
    expect(normLevels(coded)[0]).toBe(0);
    expect([...decoded(new Float32Array(7))]).toEqual(new Array(7).fill(0));
    expect(decoded(new Float32Array(0))).toEqual(new Float32Array(0));
  });

  it("use the whole byte: least and greatest get the ends", () => {
    const { codes } = codeNorms(Float32Array.of(2, 2 ** 13));
    expect(codes[0]).toBe(1);
    expect(codes[1]).toBeGreaterThanOrEqual(253);
  });

  it("are the same to 1e-5 where all are the same", () => {
    for (const norm of [1e-30, 0.3, 1, 65504, 1e30]) {
      for (const x of decoded(new Float32Array(5).fill(norm))) expect(Math.abs(x / norm - 1)).toBeLessThan(1e-5);
    }
  });

  it("stay in order", () => {
    const norms = Float32Array.from({ length: 500 }, (_, i) => 1.03 ** i);
    const { codes } = codeNorms(norms);
    for (let i = 1; i < 500; i++) expect(codes[i]).toBeGreaterThanOrEqual(codes[i - 1]);
    expect(new Set(codes).size).toBe(255);
  });

  it("take the nearest level", () => {
    const norms = Float32Array.from({ length: 300 }, (_, i) => 1 + ((i * 7919) % 300) / 10);
    const coded = codeNorms(norms);
    const levels = normLevels(coded);
    norms.forEach((norm, i) => {
      const nearest = levels.reduce(
        (best, level, code) => (code && Math.abs(level - norm) < Math.abs(levels[best] - norm) ? code : best),
        1,
      );
      expect(Math.abs(levels[coded.codes[i]] - norm)).toBe(Math.abs(levels[nearest] - norm));
    });
  });

  it("are finite at the ends of f32", () => {
    for (const norms of [
      Float32Array.of(3.4e38, 1e34),
      Float32Array.of(1e-45, 2e-45),
      Float32Array.of(3.4e38, 1e-45),
    ]) {
      const coded = codeNorms(norms);
      expect(Number.isFinite(coded.least) && Number.isFinite(coded.step)).toBe(true);
      expect(coded.step).toBeGreaterThan(1);
      decoded(norms).forEach((x) => {
        expect(Number.isFinite(x)).toBe(true);
      });
    }
  });
});
