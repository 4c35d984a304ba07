import { beforeAll, describe, expect, it } from "vitest";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { EDGES } from "../support/edges.ts";
import { expectSame, sameBits } from "../support/exact.ts";
import { PLATFORMS, SIZES } from "../support/platforms.ts";

interface Softmax {
  weights: Float32Array;
  sum: number;
}

function softmax(runtime: Runtime, arena: Arena, scores: Float32Array, scale: number): Softmax {
  const [scoresPtr, outPtr] = [arena.put(scores), arena.out(scores.byteLength)];
  const sum = runtime.kernels.softmax(outPtr, scoresPtr, scores.length, scale);
  return { weights: arena.f32(outPtr, scores.length), sum };
}

describe.each(PLATFORMS)("softmax on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });
  const run = (scores: Float32Array, scale: number): Softmax =>
    withArena(runtime, (arena) => softmax(runtime, arena, scores, scale));

  it.each(SIZES)("of %i scores is within 1e-6 of the definition and sums to 1", (count) => {
    const scores = noise(count, count + 3).map((x) => 40 * x);
    const { weights } = run(scores, 0.5);
    const exact = Array.from(scores, (x) => Math.exp(0.5 * (x - Math.max(...scores))));
    const total = exact.reduce((a, b) => a + b, 0);
    exact.forEach((x, i) => {
      expect(Math.abs(weights[i] - x / total)).toBeLessThan(1e-6 * (x / total) + 1e-12);
    });
    if (count) expect(weights.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
  });

  it("far scores weigh zero; equal scores weigh the same; huge scores do not overflow", () => {
    expect(Array.from(run(Float32Array.of(0, -88, -1e30), 1).weights)).toEqual([1, 0, 0]);
    expect(Array.from(run(new Float32Array(8).fill(3e38), 1).weights)).toEqual(Array(8).fill(0.125));
    expect(run(Float32Array.of(5, 5, 5, 5, 5), 2).sum).toBe(5);
  });
});

/** Some scores lie above it. */
const FROM = 12;

/** Scores, and standings that rise with them here and there, of 32 tokens a block. */
function sampled(
  runtime: Runtime,
  arena: Arena,
  scores: Float32Array,
  standings: Float32Array,
  step: number,
  least: number,
): number {
  const [scoresPtr, standingsPtr] = [arena.put(scores), arena.put(standings)];
  return runtime.kernels.sampledExponentials(scoresPtr, standingsPtr, scores.length / 32, step, least, FROM, 0.125);
}

describe.each(PLATFORMS)("sampledExponentials on $name", ({ create }) => {
  it.each([
    [0, 1],
    [1, 1],
    [3, 1],
    [8, 1],
    [19, 1],
    [19, 2],
    [35, 8],
    [5, 9],
  ])(
    "of %i blocks, each or every %i-th, are those of every eighth token that stands below the least",
    async (blocks, step) => {
      const scores = noise(32 * blocks, 5).map((x) => 20 * x);
      const standings = noise(32 * blocks, 6);
      // A free place: no score, lowest standing.
      if (blocks) [scores[2], standings[2]] = [-Infinity, -Infinity];
      const runtime = await create();
      for (const least of [-Infinity, 0.1, Infinity]) {
        const got = withArena(runtime, (arena) => sampled(runtime, arena, scores, standings, step, least));
        let expected = 0;
        scores.forEach((score, i) => {
          const block = Math.floor(i / 32);
          const isSampled = block % step === 0 && Math.floor((i % 32) / 4) === (block / step) % 8;
          if (isSampled && standings[i] < least) expected += Math.exp((score - FROM) / 8);
        });
        expect(Math.abs(got - expected)).toBeLessThan(1e-6 * expected + 1e-12);
      }
    },
  );
});

describe("softmax everywhere", () => {
  it("has the same bits for sampled exponentials", async () => {
    const same = await sameBits();
    const [scores, standings] = [noise(32 * 11, 7).map((x) => 300 * x), noise(32 * 11, 8)];
    for (const step of [1, 3]) same((runtime, arena) => [[sampled(runtime, arena, scores, standings, step, 0.2)]]);
  });

  it("is exponentials divided by their sum, which have the same bits everywhere too", async () => {
    const same = await sameBits();
    for (const count of SIZES) {
      const scores = noise(count, count + 2).map((x) => 30 * x);
      same((runtime, arena) => {
        const [scoresPtr, outPtr] = [arena.put(scores), arena.out(4 * count)];
        const sum = runtime.kernels.exponentials(outPtr, scoresPtr, count, 0.5);
        const exponentials = arena.f32(outPtr, count);
        const { weights, sum: softmaxSum } = softmax(runtime, arena, scores, 0.5);
        expect(sum).toBe(softmaxSum);
        expectSame(
          weights,
          exponentials.map((x) => x * Math.fround(1 / sum)),
        );
        if (count) expect(Math.max(...exponentials)).toBe(1);
        // In place.
        runtime.kernels.exponentials(scoresPtr, scoresPtr, count, 0.5);
        expectSame(arena.f32(scoresPtr, count), exponentials);
        return [exponentials, [sum]];
      });
    }
  });

  it("gives the same bits as its twin", async () => {
    const same = await sameBits();
    for (const count of SIZES) {
      same((runtime, arena) => {
        const scoresPtr = arena.put(noise(count, count + 1).map((x) => 100 * x));
        const sum = runtime.kernels.softmax(scoresPtr, scoresPtr, count, 0.125);
        return [arena.f32(scoresPtr, count), [sum]];
      });
    }
  });

  it("same bits at every power of two, down to the least weight that is not zero", async () => {
    const same = await sameBits();
    const scores = Float32Array.from({ length: 9001 }, (_, i) => i / -100);
    const [weights] = same((runtime, arena) => {
      const [scoresPtr, outPtr] = [arena.put(scores), arena.out(scores.byteLength)];
      const sum = runtime.kernels.softmax(outPtr, scoresPtr, scores.length, 1);
      return [arena.f32(outPtr, scores.length), [sum]];
    });
    Array.from(weights).forEach((weight, i) => {
      expect(weight > 0, `weight of ${scores[i]}`).toBe(scores[i] >= -87);
    });
  });

  it.each(EDGES)("same bits for %s", async (_, make) => {
    const same = await sameBits();
    same((runtime, arena) => {
      const [scoresPtr, outPtr] = [arena.put(make(1, 37)), arena.out(4 * 37)];
      const sum = runtime.kernels.softmax(outPtr, scoresPtr, 37, 1);
      return [arena.f32(outPtr, 37), [sum]];
    });
  });
});
