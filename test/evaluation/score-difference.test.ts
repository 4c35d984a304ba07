/** One query head's attention on codes against exact attention: by hand, and what rounding must not do. */
import { describe, expect, it } from "vitest";
import { compareScores, outputError } from "../../src/evaluation/score-difference.ts";
import { noise } from "../support/noise.ts";

const ALL = { first: 0, count: 4 };
const weightsOf = (scores: number[]): number[] => {
  const weights = scores.map(Math.exp);
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
};

describe("compareScores", () => {
  const exact = [1, 3, -2, 0.5];

  it("is the divergence of the two softmaxes", () => {
    const approximate = [1.5, 2.5, -1, 0.25];
    const [p, q] = [weightsOf(exact), weightsOf(approximate)];
    const expected = p.reduce((sum, x, i) => sum + x * Math.log(x / q[i]), 0);
    // Exact scores are not scaled, approximate ones are.
    const given = Float32Array.from(exact, (x) => 8 * x);
    const result = compareScores(given, Float32Array.from(approximate), 1 / 8, ALL);
    expect(result.divergence).toBeCloseTo(expected, 12);
    expect(result).toMatchObject({ attendedWeight: 1, recall: 1 });
  });

  it("is taken among the tokens attended to", () => {
    const approximate = Float32Array.of(0.5, -Infinity, -1, 0.25);
    const result = compareScores(Float32Array.from(exact), approximate, 1, ALL);
    const [p, q] = [weightsOf([1, -2, 0.5]), weightsOf([0.5, -1, 0.25])];
    expect(result.divergence).toBeCloseTo(
      p.reduce((sum, x, i) => sum + x * Math.log(x / q[i]), 0),
      12,
    );
    expect(result.attendedWeight).toBeCloseTo(1 - weightsOf(exact)[1], 12);
    expect(result.recall).toBe(3 / 4);
  });

  it("takes scores that a softmax could not hold, and far ones attended to alone", () => {
    const [high, low] = [Float32Array.of(1e6, 1e6, -1e6), Float32Array.of(-Infinity, -Infinity, 7)];
    expect(compareScores(high, high.slice(), 1, ALL)).toMatchObject({ divergence: 0, attendedWeight: 1 });
    expect(compareScores(high, low, 1, { first: 0, count: 3 })).toMatchObject({ divergence: 0, attendedWeight: 0 });
  });

  it("looks for the 64 greatest coded tokens", () => {
    const scores = noise(300, 5);
    const best = [...scores.keys()].slice(10, 290).sort((a, b) => scores[b] - scores[a]);
    const approximate = new Float32Array(300).fill(-Infinity);
    for (const t of best.slice(16, 200)) approximate[t] = 0;
    expect(compareScores(scores, approximate, 1, { first: 10, count: 280 }).recall).toBe(48 / 64);
    expect(compareScores(scores, approximate, 1, { first: 10, count: 0 }).recall).toBe(1);
  });
});

describe("outputError", () => {
  it("is relative to the exact output, and nothing where that is zero", () => {
    const [exact, other] = [Float32Array.of(9, 3, 4, 0), Float32Array.of(0, 3, 5, 1)];
    expect(outputError(exact, other, 1, 2)).toBe(1 / 25);
    expect(outputError(exact, other, 3, 1)).toBe(0);
  });
});
