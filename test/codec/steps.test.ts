/** Even steps: what the table of rates says, and the step that a number of bits asks for. */
import { describe, expect, it } from "vitest";
import type { Basis } from "../../src/codec/basis.ts";
import { ERRORS, RATES, ROUNDING, SPACING } from "../../src/codec/step-rates.ts";
import { commonStep, errorOf, keptAt, rateOf } from "../../src/codec/steps.ts";

/** Normal numbers by sums of twelve even ones, from a seed. */
function normals(count: number, deviation: number): Float64Array {
  let state = 12345;
  const even = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  return Float64Array.from({ length: count }, () => {
    const [u, v] = [even(), even()];
    return deviation * Math.sqrt(-2 * Math.log(1 - u)) * Math.cos(2 * Math.PI * v);
  });
}

/** Entropy of the codes and error at least-squares levels, counted. */
function counted(values: Float64Array): { bits: number; error: number } {
  const counts = new Map<number, number>();
  let [cross, square, energy] = [0, 0, 0];
  for (const x of values) {
    const q = Math.sign(x) * Math.floor(Math.abs(x) + ROUNDING);
    counts.set(q, (counts.get(q) ?? 0) + 1);
    cross += x * q;
    square += q * q;
    energy += x * x;
  }
  let bits = 0;
  for (const n of counts.values()) bits -= (n / values.length) * Math.log2(n / values.length);
  return { bits, error: (energy - (square > 0 ? cross ** 2 / square : 0)) / values.length };
}

describe("rates and errors of a normal channel", () => {
  it.each([0.25, 0.5, 1, 2.5, 4, 9])("are those counted at %f steps", (deviation) => {
    const { bits, error } = counted(normals(200_000, deviation));
    expect(Math.abs(rateOf(deviation) - bits)).toBeLessThan(0.03);
    expect(errorOf(deviation) / error).toBeGreaterThan(0.96);
    expect(errorOf(deviation) / error).toBeLessThan(1.04);
  });

  it("are the table's at its entries, and rise by a bit where the deviation doubles past them", () => {
    RATES.forEach((rate, i) => {
      expect(rateOf(i * SPACING)).toBe(rate);
    });
    ERRORS.forEach((error, i) => {
      expect(errorOf(i * SPACING)).toBe(error);
    });
    expect(rateOf(32) - rateOf(16)).toBe(1);
  });
});

const basisOf = (variance: number[], spread?: number[]): Basis => ({
  dim: 64,
  rank: variance.length,
  variance: Float64Array.from(variance),
  energy: 1,
  synthesis: new Float32Array(0),
  ...(spread && { spread: Float64Array.from(spread) }),
});
const SPECTRUM = Array.from({ length: 64 }, (_, c) => 100 * 0.8 ** c);

describe("one step for all channels", () => {
  it.each([0.1, 0.5, 1, 2, 4])("takes %f bits an element", (bits) => {
    const bases = [basisOf(SPECTRUM), basisOf(SPECTRUM.map((x) => x / 50))];
    const step = commonStep(bases, bits, 5000);
    const rate = bases.reduce(
      (sum, basis) =>
        sum +
        keptAt(basis, step, 5000).channels.reduce((part, c) => part + rateOf(Math.sqrt(basis.variance[c]) / step), 0),
      0,
    );
    expect(rate / 128).toBeLessThanOrEqual(bits);
    expect(rate / 128).toBeGreaterThan(0.9 * bits);
  });

  it("goes by what codes cost, not by what tokens weigh", () => {
    const wide = commonStep(
      [
        basisOf(
          SPECTRUM,
          SPECTRUM.map((x) => 4 * x),
        ),
      ],
      1,
      5000,
    );
    expect(wide).toBeGreaterThan(1.2 * commonStep([basisOf(SPECTRUM)], 1, 5000));
  });

  it("keeps fewer channels in a shorter cache, whose rows weigh more", () => {
    const kept = [100, 1000, 100_000].map((tokens) => keptAt(basisOf(SPECTRUM), 1, tokens).channels.length);
    expect(kept[0]).toBeLessThan(kept[1]);
    expect(kept[1]).toBeLessThan(kept[2]);
  });

  it("of channels without variance is 1, and keeps none", () => {
    expect(commonStep([basisOf([0, 0])], 1, 100)).toBe(1);
    expect(keptAt(basisOf([4, 1e-30, -1e-15]), 0.1, 100).channels).toEqual([0]);
    expect(keptAt(basisOf([0, 0]), 1, 100).channels).toEqual([]);
  });
});
