import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { expectSame, sameBits } from "../support/exact.ts";
import { PLATFORMS } from "../support/platforms.ts";

describe.each(PLATFORMS)("standings on $name", ({ create }) => {
  it.each([
    [1, 1],
    [2, 3],
    [5, 4],
    [7, 9],
  ])("of %i eights for %i queries are the greatest score above the query's offset", async (eights, queries) => {
    const stride = 8 * eights + 4;
    const [scores, offsets] = [noise(queries * stride, 5), noise(queries, 6)];
    // What a free place holds, for one query and for all.
    scores[3] = -Infinity;
    for (let q = 0; q < queries; q++) scores[q * stride + 5] = -Infinity;
    const runtime = await create();
    const got = withArena(runtime, (arena) => {
      const [outPtr, maximaPtr] = [arena.out(32 * eights), arena.out(4 * eights)];
      const [scoresPtr, offsetsPtr] = [arena.put(scores), arena.put(offsets)];
      runtime.kernels.standings(outPtr, maximaPtr, scoresPtr, offsetsPtr, eights, queries, stride);
      return { out: arena.f32(outPtr, 8 * eights), maxima: arena.f32(maximaPtr, eights) };
    });
    const expected = Float32Array.from({ length: 8 * eights }, (_, i) =>
      Math.max(...Array.from(offsets, (offset, q) => Math.fround(scores[q * stride + i] - offset))),
    );
    expectSame(got.out, expected);
    expectSame(
      got.maxima,
      Float32Array.from({ length: eights }, (_, i) => Math.max(...expected.subarray(8 * i, 8 * i + 8))),
    );
  });
});

const many = (count: number, seed: number, levels: number): Float32Array =>
  noise(count, seed).map((x) => Math.round(levels * x) / levels - 3);

/** The n-th score of some blocks whose last has free places. */
function nthScore(runtime: Runtime, arena: Arena, scores: Float32Array, step: number, n: number): number {
  const blocks = scores.length / 32;
  const maxima = Float32Array.from({ length: blocks }, (_, i) => Math.max(...scores.subarray(32 * i, 32 * i + 32)));
  const [scoresPtr, maximaPtr, scratchPtr] = [arena.put(scores), arena.put(maxima), arena.out(4 * scores.length)];
  return runtime.kernels.nthScore(scoresPtr, maximaPtr, scratchPtr, blocks, step, n);
}

/** Scores of `blocks`, the last with three tokens. */
function scoresOf(blocks: number, seed: number, levels: number): Float32Array {
  return many(32 * blocks, seed, levels).fill(-Infinity, 32 * blocks - 29);
}

describe.each(PLATFORMS)("nthScore on $name", ({ create }) => {
  it.each([
    [1, 1, 1],
    [1, 1, 3],
    [7, 1, 2],
    [7, 1, 7],
    [7, 1, 8],
    [7, 1, 195],
    [40, 3, 5],
    [40, 3, 400],
    [300, 1, 290],
  ])("of %i blocks, each or every %i-th, is the %i-th greatest", async (blocks, step, n) => {
    const runtime = await create({ poison: true });
    for (const levels of [1, 30, 1e6]) {
      const scores = scoresOf(blocks, 9, levels);
      const got = withArena(runtime, (arena) => nthScore(runtime, arena, scores, step, n));
      const looked = scores.filter((_, i) => Math.floor(i / 32) % step === 0);
      expect(got).toBe(looked.toSorted((a, b) => b - a)[n - 1]);
    }
  });
});

describe.each(PLATFORMS)("takeScores on $name", ({ create }) => {
  it.each([
    [1, 1],
    [5, 3],
    [33, 2],
  ])("takes %i scores of %i queries", async (count, queries) => {
    const runtime = await create();
    const scores = noise(queries * 100, 3);
    const numbers = Uint32Array.from({ length: count }, (_, i) => 3 * i + (i % 2));
    const got = withArena(runtime, (arena) => {
      const [outPtr, scoresPtr, numbersPtr] = [arena.out(4 * queries * count), arena.put(scores), arena.put(numbers)];
      runtime.kernels.takeScores(outPtr, scoresPtr, numbersPtr, count, queries, 100);
      return arena.f32(outPtr, queries * count);
    });
    const expected = Array.from({ length: queries }, (_, q) => Array.from(numbers, (i) => scores[100 * q + i]));
    expectSame(got, Float32Array.from(expected.flat()));
  });
});

/** Standings of `count` tokens, the rest of the last block free, and the kernel's choice of them. */
function choose(runtime: Runtime, arena: Arena, standings: Float32Array, wanted: number) {
  const count = standings.length;
  const all = new Float32Array(32 * Math.ceil(count / 32)).fill(-Infinity);
  all.set(standings);
  const maxima = Float32Array.from({ length: all.length / 8 }, (_, i) => Math.max(...all.subarray(8 * i, 8 * i + 8)));
  const [numbersPtr, scratchPtr] = [arena.out(4 * count), arena.out(4 * count)];
  const [standingsPtr, maximaPtr] = [arena.put(all), arena.put(maxima)];
  const least = runtime.kernels.chooseTokens(numbersPtr, standingsPtr, maximaPtr, scratchPtr, count, wanted);
  return { numbers: arena.u32(numbersPtr, wanted), least };
}

function byDefinition(standings: Float32Array, wanted: number) {
  const order = Array.from(standings.keys()).sort((a, b) => standings[b] - standings[a] || a - b);
  return { numbers: order.slice(0, wanted).sort((a, b) => a - b), least: standings[order[wanted - 1]] };
}

describe.each(PLATFORMS)("chooseTokens on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create({ poison: true });
  });

  it("finds the greatest, the first of equals, in rising order", () => {
    const input = fc.record({
      count: fc.integer({ min: 1, max: 3000 }),
      part: fc.double({ min: 0, max: 1, noNaN: true }),
      // From all equal to all different.
      levels: fc.constantFrom(0.1, 2, 30, 1e6),
      seed: fc.integer({ min: 1, max: 1000 }),
    });
    const check = ({ count, part, levels, seed }: { count: number; part: number; levels: number; seed: number }) => {
      const standings = many(count, seed, levels);
      const wanted = Math.max(1, Math.ceil(part * count));
      const { numbers, least } = withArena(runtime, (arena) => choose(runtime, arena, standings, wanted));
      const expected = byDefinition(standings, wanted);
      expectSame(numbers, expected.numbers);
      expect(least).toBe(expected.least);
    };
    fc.assert(fc.property(input, check), { numRuns: 100 });
  });

  it("finds them where a sample misleads", () => {
    // The token of each block that the sample takes stands out, or none of them does.
    for (const sign of [1, -1]) {
      const standings = noise(5000, 3).map((x, i) => (i % 32 === Math.floor(i / 32) % 32 ? x + 9 * sign : x));
      for (const wanted of [1, 100, 157, 400, 4000]) {
        const { numbers, least } = withArena(runtime, (arena) => choose(runtime, arena, standings, wanted));
        const expected = byDefinition(standings, wanted);
        expectSame(numbers, expected.numbers);
        expect(least).toBe(expected.least);
      }
    }
  });
});

describe("choosing, everywhere", () => {
  it("gives the same scores as the twin", async () => {
    const same = await sameBits();
    for (const [step, n] of [
      [1, 31],
      [4, 90],
    ]) {
      same((runtime, arena) => [[nthScore(runtime, arena, scoresOf(60, 6, 1e6), step, n)]]);
    }
  });

  it("gives the same standings as the twin", async () => {
    const same = await sameBits();
    same((runtime, arena) => {
      const [outPtr, maximaPtr] = [arena.out(32 * 9), arena.out(4 * 9)];
      const [scoresPtr, offsetsPtr] = [arena.put(noise(3 * 72, 7)), arena.put(noise(3, 8))];
      runtime.kernels.standings(outPtr, maximaPtr, scoresPtr, offsetsPtr, 9, 3, 72);
      return [arena.f32(outPtr, 72), arena.f32(maximaPtr, 9)];
    });
  });

  it.each([
    [33, 1],
    [33, 33],
    [1000, 31],
    [1000, 200],
  ])("gives the same of %i tokens, %i wanted", async (count, wanted) => {
    const same = await sameBits();
    for (const levels of [1, 20, 1e6]) {
      same((runtime, arena) => {
        const { numbers, least } = choose(runtime, arena, many(count, 4, levels), wanted);
        return [numbers, [least]];
      });
    }
  });
});
