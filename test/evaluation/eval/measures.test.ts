/** Measures of an evaluation against numbers worked out by hand. */
import { describe, expect, it } from "vitest";
import { divergence, Measures, normalise, percentile, top } from "../../../src/evaluation/eval/measures.ts";

const of = (...values: number[]): Float32Array => Float32Array.from(values);

describe("divergence", () => {
  it("is the sum of p log(p / q)", () => {
    // 0.5 log(0.5 / 0.25) + 0.25 log(0.25 / 0.5) + 0.25 log(0.25 / 0.25) = 0.25 log 2
    expect(divergence(of(0.5, 0.25, 0.25), of(0.25, 0.5, 0.25))).toBeCloseTo(0.25 * Math.LN2, 7);
  });

  it("is 0 of the same, takes nothing for p = 0 and stays finite for q = 0", () => {
    expect(divergence(of(0.75, 0.25, 0), of(0.75, 0.25, 0))).toBe(0);
    expect(divergence(of(1, 0), of(0.5, 0.5))).toBeCloseTo(Math.LN2, 7);
    expect(divergence(of(0.5, 0.5), of(1, 0))).toBeCloseTo(0.5 * (Math.log(0.5) + Math.log(0.5) + 126 * Math.LN2), 6);
  });

  it("refuses distributions of two lengths", () => {
    expect(() => divergence(of(1), of(0.5, 0.5))).toThrow("q.length: expected 1 as p has, got 2");
  });
});

describe("percentile", () => {
  it("lies straight between neighbours, whatever their order", () => {
    expect(percentile([3, 1, 2], 0.5)).toBe(2);
    expect(percentile([4, 2, 1, 3], 0.5)).toBe(2.5);
    const hundred = Array.from({ length: 101 }, (_, i) => 100 - i);
    expect(percentile(hundred, 0.99)).toBe(99);
    expect(percentile([10, 0], 0.99)).toBeCloseTo(9.9, 12);
    expect(percentile([7], 0.99)).toBe(7);
  });
});

it("normalise adds up to 1, and top is the first of the largest", () => {
  expect([...normalise(of(1, 2, 1))]).toEqual([0.25, 0.5, 0.25]);
  expect(top(of(0.1, 0.4, 0.1, 0.4))).toBe(1);
});

describe("Measures", () => {
  it("of two tokens", () => {
    const measures = new Measures();
    // Same likeliest token, loss of the next one from log 2 to log 4.
    measures.add(of(0.5, 0.25, 0.25), of(0.5, 0.25, 0.25), 0);
    measures.add(of(0.5, 0.25, 0.25), of(0.25, 0.5, 0.25), 0);
    const { perplexityChange, kl, kl99, top1 } = measures.result();
    // Losses: log 2 twice against log 2 and log 4; perplexity 2 against sqrt(8).
    expect(perplexityChange).toBeCloseTo(Math.SQRT2 - 1, 7);
    expect(kl).toBeCloseTo(0.125 * Math.LN2, 7);
    expect(kl99).toBeCloseTo(0.99 * 0.25 * Math.LN2, 7);
    expect(top1).toBe(0.5);
  });
});
