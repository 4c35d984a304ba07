import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import {
  BLOCK_TOKENS,
  channelCount,
  GROUP,
  MOST_SET_PLANES,
  MOST_SET_QUERIES,
  PLANE_BYTES,
  planeCount,
  roundUp,
  SCORE_SET,
  scoreScratchBytes,
  scoreSetBytes,
  type WidthCounts,
} from "../../src/codec/layout.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { anyBlocks, countsOf, MIXTURES, nibbleAt, noiseLevels, placesOf } from "../support/coded-group.ts";
import { expectSame, sameBits } from "../support/exact.ts";
import { PLATFORMS } from "../support/platforms.ts";

const MANY = countsOf(1, 3, 7, 9);

/** Sets of queries on one head group, and a list of its blocks. */
interface Input {
  counts: WidthCounts;
  /** (parts, 16) */
  levels: Float32Array;
  /** (channels + 1, latentStride), column s * queryCount + q. */
  latents: Float32Array;
  latentStride: number;
  setCount: number;
  queryCount: number;
  leastStep: number;
  /** (blocks, planes, 16) */
  blocks: Uint8Array;
  /** Blocks scored, in this order. */
  list: number[];
  /** Sets from one that a block reads to the next. */
  setStride: number;
  blocksPerSet: number;
  skippedBlocks: number;
  scoreGap: number;
}

/** Noise for everything that is not given. */
function inputOf(given: Partial<Input> & { seed?: number } = {}): Input {
  const { counts = MANY, queryCount = 3, setCount = 1, seed = 1 } = given;
  const latentStride = setCount * queryCount + (seed % 3);
  return {
    counts,
    levels: noiseLevels(placesOf(counts), seed),
    latents: noise((channelCount(counts) + 1) * latentStride, seed + 1),
    latentStride,
    setCount,
    queryCount,
    leastStep: 1e-3,
    blocks: anyBlocks(counts, 3, 0, seed + 2),
    list: [0, 1, 2],
    setStride: 1,
    blocksPerSet: 1000,
    skippedBlocks: 0,
    scoreGap: 0,
    ...given,
  };
}

/** A set taken apart by the words of `layout.ts`. */
interface ReadSet {
  steps: Float32Array;
  biases: Float32Array;
  runs: number[];
  wideCount: number;
  lowBits: number;
  /** (planes, queries, 16) */
  lows: Uint8Array;
  highs: Uint8Array;
  /** Every byte that the layout gives a meaning; sums are scratch. */
  bytes: Uint8Array;
}

function readSet(bytes: Uint8Array, planes: number, queries: number): ReadSet {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const f32 = (at: number) => Float32Array.from({ length: 4 }, (_, i) => view.getFloat32(at + 4 * i, true));
  const runCount = view.getUint32(32, true);
  expect(view.getUint32(40, true), "planes").toBe(planes);
  expect(view.getUint32(44, true), "queries").toBe(queries);
  const lowsAt = 320 + roundUp(planes, 16);
  const entryBytes = 16 * planes * queries;
  expect(lowsAt + 2 * entryBytes).toBe(scoreSetBytes(planes, queries));
  const runs = Array.from(bytes.subarray(320, 320 + runCount));
  expect(
    bytes.subarray(320 + runCount, lowsAt).every((x) => x === 0),
    "zeros behind the runs",
  ).toBe(true);
  return {
    steps: f32(0),
    biases: f32(16),
    runs,
    wideCount: view.getUint32(36, true),
    lowBits: view.getUint32(SCORE_SET.lowBits, true),
    lows: bytes.slice(lowsAt, lowsAt + entryBytes),
    highs: bytes.slice(lowsAt + entryBytes, lowsAt + 2 * entryBytes),
    bytes: bytes.map((x, i) => (i >= 52 && i < 320 ? 0 : x)),
  };
}

function makeSets(runtime: Runtime, arena: Arena, input: Input): { setsPtr: number; sets: ReadSet[] } {
  const { counts, setCount, queryCount } = input;
  const planes = planeCount(counts);
  const setBytes = scoreSetBytes(planes, queryCount);
  const group = new Uint32Array(GROUP.bytes / 4);
  group.set([counts.count8, counts.count4, counts.count2, counts.count1, arena.put(input.levels)]);
  group[GROUP.queryCount / 4] = queryCount;
  const groupPtr = arena.put(new Uint8Array(group.buffer));
  const [setsPtr, scratchPtr] = [arena.out(setCount * setBytes), arena.out(scoreScratchBytes(planes, queryCount))];
  const latentsPtr = arena.putAtEnd(input.latents);
  runtime.kernels.scoreTables(setsPtr, latentsPtr, groupPtr, scratchPtr, setCount, input.latentStride, input.leastStep);
  const sets = Array.from({ length: setCount }, (_, s) =>
    readSet(arena.u8(setsPtr + s * setBytes, setBytes), planes, queryCount),
  );
  return { setsPtr, sets };
}

/** Sets, and the scores on them: (queryCount, 32 * list + scoreGap). */
function run(runtime: Runtime, arena: Arena, input: Input): { sets: ReadSet[]; scores: Float32Array } {
  const { counts, queryCount, list, scoreGap } = input;
  const planes = planeCount(counts);
  const { setsPtr, sets } = makeSets(runtime, arena, input);
  const [tokens, stride] = [BLOCK_TOKENS * list.length, BLOCK_TOKENS * list.length + scoreGap];
  const span = list.length ? (queryCount - 1) * stride + tokens : 0;
  const [scoresPtr, listPtr] = [arena.out(4 * span), arena.out(4 * list.length)];
  const blocksPtr = arena.putAtEnd(input.blocks);
  arena.putIn(
    listPtr,
    Uint32Array.from(list, (block) => blocksPtr + block * planes * PLANE_BYTES),
  );
  runtime.kernels.scorePlanes(
    scoresPtr,
    listPtr,
    setsPtr,
    list.length,
    input.setStride * scoreSetBytes(planes, queryCount),
    input.blocksPerSet,
    input.skippedBlocks,
    stride,
  );
  const all = arena.f32(scoresPtr, span);
  const scores = new Float32Array(queryCount * tokens);
  for (let q = 0; q < queryCount; q++) {
    scores.set(all.subarray(q * stride, q * stride + tokens), q * tokens);
    const gap = new Uint8Array(all.slice(q * stride + tokens, (q + 1) * stride).buffer);
    expect(
      gap.every((x) => x === 0xee),
      "what lies between rows of scores is left alone",
    ).toBe(true);
  }
  return { sets, scores };
}

/** Set and column of latents of block i of the list. */
const setOf = ({ skippedBlocks, blocksPerSet, setStride }: Input, i: number): number =>
  setStride * Math.floor((skippedBlocks + i) / blocksPerSet);

/**
 * Scores of query q on block i of the list in f64, and what may be between them and the kernel's. Each plane's entry is
 * the nearest whole number of steps: half a step a plane. In f32, where `size` bounds every sum on the way: at most 4
 * products and 4 sums a level, a sum a plane for the bias, and a dozen for differences, their product with 1 / step,
 * and the last sum.
 */
function exactScores(input: Input, sets: ReadSet[], q: number, i: number): { scores: Float64Array; bound: number } {
  const { counts, latents, latentStride, levels, queryCount } = input;
  const column = setOf(input, i) * queryCount + q;
  const planes = planeCount(counts);
  const block = input.blocks.subarray(input.list[i] * planes * PLANE_BYTES);
  const centre = latents[channelCount(counts) * latentStride + column];
  const scores = new Float64Array(BLOCK_TOKENS).fill(centre);
  let size = Math.abs(centre);
  placesOf(counts).forEach(({ channel, plane }, part) => {
    if (channel === undefined) return;
    const y = latents[channel * latentStride + column];
    const own = levels.subarray(16 * part, 16 * part + 16);
    for (let t = 0; t < BLOCK_TOKENS; t++) scores[t] += y * own[nibbleAt(block, plane, t)];
    size += Math.abs(y) * Math.max(...own.map(Math.abs));
  });
  const step = sets[setOf(input, i)].steps[q];
  return { scores, bound: (planes * step) / 2 + (planes + 24) * 2 ** -24 * size + 1e-44 * planes };
}

/** Entries of the set: (planes, queries, 16). */
const entriesOf = ({ lows, highs, lowBits }: ReadSet): Uint16Array =>
  Uint16Array.from(lows, (low, i) => low + (highs[i] << lowBits));

/** Sum over planes [from, to) of the greatest of 16 bytes or entries of query q. */
function sumOfGreatest(values: ArrayLike<number>, queries: number, q: number, from: number, to: number): number {
  let sum = 0;
  for (let plane = from; plane < to; plane++) {
    const first = 16 * (plane * queries + q);
    let most = 0;
    for (let i = first; i < first + 16; i++) most = Math.max(most, values[i]);
    sum += most;
  }
  return sum;
}

/** What `scorePlanes` relies on: nothing that it adds up in a byte or in 16 bits overflows. */
function expectSafe({ counts, queryCount, leastStep }: Input, set: ReadSet): void {
  const planes = planeCount(counts);
  const planesInRuns = set.runs.reduce((a, b) => a + b, 0);
  if (set.runs.length) expect(planesInRuns).toBe(planes);
  else expect(set.lowBits, "no runs: whole bytes").toBe(8);
  expect(set.lowBits).toBeLessThanOrEqual(8);
  expect(Math.max(...set.lows, 0)).toBeLessThan(2 ** set.lowBits);
  const narrow = set.highs.subarray(16 * queryCount * set.wideCount);
  expect(
    narrow.every((x) => x === 0),
    "no high bytes from wideCount on",
  ).toBe(true);
  const entries = entriesOf(set);
  for (let q = 0; q < queryCount; q++) {
    expect(set.steps[q]).toBeGreaterThanOrEqual(Math.fround(leastStep));
    if (set.runs.length === 0) continue;
    expect(sumOfGreatest(entries, queryCount, q, 0, planes)).toBeLessThan(65536);
    expect(sumOfGreatest(set.highs, queryCount, q, 0, planes)).toBeLessThan(256);
    let first = 0;
    for (const length of set.runs) {
      expect(sumOfGreatest(set.lows, queryCount, q, first, first + length)).toBeLessThan(256);
      first += length;
    }
  }
  for (let q = queryCount; q < MOST_SET_QUERIES; q++) expect([set.steps[q], set.biases[q]]).toEqual([0, 0]);
}

describe.each(PLATFORMS)("scores on planes, on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });
  const scored = (input: Input) => withArena(runtime, (arena) => run(runtime, arena, input));

  function expectDefinition(input: Input): void {
    const { sets, scores } = scored(input);
    for (const set of sets) expectSafe(input, set);
    for (let q = 0; q < input.queryCount; q++) {
      input.list.forEach((_, i) => {
        const exact = exactScores(input, sets, q, i);
        const got = scores.subarray((q * input.list.length + i) * BLOCK_TOKENS);
        exact.scores.forEach((score, t) => {
          const near = Math.abs(got[t] - score) <= exact.bound;
          if (!near) expect(got[t], `query ${q}, block ${i}, token ${t}, bound ${exact.bound}`).toBe(score);
        });
      });
    }
  }

  it("are the definition to half a step a plane, for every mixture of widths", () => {
    MIXTURES.forEach((counts, i) => {
      expectDefinition(inputOf({ counts, leastStep: [1e-6, 1e-3, 0.1][i % 3], seed: i + 1 }));
    });
  });

  it("are the definition for any group, queries and step", () => {
    const given = fc.record({
      counts: fc
        .tuple(
          fc.integer({ min: 0, max: 3 }),
          fc.integer({ min: 0, max: 12 }),
          fc.integer({ min: 0, max: 40 }),
          fc.integer({ min: 0, max: 60 }),
        )
        .map((counts) => countsOf(...counts)),
      queryCount: fc.integer({ min: 1, max: MOST_SET_QUERIES }),
      setCount: fc.integer({ min: 1, max: 3 }),
      leastStep: fc.double({ min: -30, max: 10, noNaN: true }).map((log) => 2 ** log),
      blocksPerSet: fc.integer({ min: 1, max: 3 }),
      scoreGap: fc.integer({ min: 0, max: 5 }),
      seed: fc.integer({ min: 1, max: 1000 }),
    });
    fc.assert(
      fc.property(given, fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 9 }), (some, list) => {
        expectDefinition(inputOf({ ...some, list: list.slice(0, some.setCount * some.blocksPerSet) }));
      }),
      { numRuns: 60 },
    );
  });

  it.each([0, 1, 2, 3, 5, 8])("take %i blocks, of one to four queries", (blocks) => {
    const list = Array.from({ length: blocks }, (_, i) => i);
    for (let queryCount = 1; queryCount <= MOST_SET_QUERIES; queryCount++) {
      expectDefinition(inputOf({ blocks: anyBlocks(MANY, blocks), list, queryCount, scoreGap: 7 }));
    }
  });

  it("take blocks in any order, one more than once: each scores what it scores alone", () => {
    const list = [2, 0, 1, 1, 0, 2, 2];
    const { scores } = scored(inputOf({ list }));
    const alone = [0, 1, 2].map((block) => scored(inputOf({ list: [block] })).scores);
    for (let q = 0; q < 3; q++) {
      list.forEach((block, i) => {
        const from = (q * list.length + i) * BLOCK_TOKENS;
        const expected = alone[block].subarray(q * BLOCK_TOKENS, (q + 1) * BLOCK_TOKENS);
        expectSame(scores.subarray(from, from + BLOCK_TOKENS), expected, `query ${q}, block ${i} of the list`);
      });
    }
  });

  it("read the set of each block, wherever the first lies", () => {
    const list = [0, 1, 2, 0, 1, 2, 0];
    for (const blocksPerSet of [1, 2, 3, 7, 8]) {
      for (const skippedBlocks of [0, 1, 2, 5, 7, 9]) {
        for (const setStride of [1, 2]) {
          const setCount = setStride * Math.floor((skippedBlocks + 6) / blocksPerSet) + 1;
          expectDefinition(inputOf({ list, blocksPerSet, skippedBlocks, setStride, setCount, queryCount: 2 }));
        }
      }
    }
  });

  it("of a query do not depend on the others in its set", () => {
    const input = inputOf({ queryCount: 4, leastStep: 1e-4 });
    const { scores } = scored(input);
    for (let q = 0; q < 4; q++) {
      const latents = Float32Array.from({ length: channelCount(MANY) + 1 }, (_, c) => {
        return input.latents[c * input.latentStride + q];
      });
      const alone = scored({ ...input, queryCount: 1, latents, latentStride: 1 });
      expectSame(alone.scores, scores.subarray(q * 96, (q + 1) * 96), `query ${q}`);
    }
  });

  it("without channels are the centre's share", () => {
    const { scores } = scored(
      inputOf({ counts: countsOf(0, 0, 0, 0), latents: Float32Array.of(1.5, -2, 3), latentStride: 3 }),
    );
    for (let t = 0; t < 96; t++) expect([scores[t], scores[96 + t], scores[192 + t]]).toEqual([1.5, -2, 3]);
  });

  it.each(Object.entries(edges()))("take %s", (_, input) => expectDefinition(input));

  it("of one level a channel are that level, exactly: all ranges are zero", () => {
    const counts = countsOf(0, 2, 0, 0);
    const { scores, sets } = scored(
      inputOf({
        counts,
        levels: new Float32Array(32).map((_, i) => (i < 16 ? 0.5 : 2)),
        latents: Float32Array.of(1, 3, 100),
        latentStride: 1,
        queryCount: 1,
      }),
    );
    expect(scores).toEqual(new Float32Array(96).fill(106.5));
    expect(entriesOf(sets[0])).toEqual(new Uint16Array(32));
  });

  it("of steps that nothing divides by: the entries are zero, the bias is all", () => {
    const latents = new Float32Array((channelCount(MANY) + 1) * 3).fill(1e-42);
    const { sets, scores } = scored(inputOf({ latents, latentStride: 3, leastStep: 1e-45 }));
    expect(Math.max(...entriesOf(sets[0]))).toBe(0);
    for (const score of scores) expect(Math.abs(score)).toBeLessThan(1e-38);
  });

  it("are exact where levels are whole steps", () => {
    const counts = countsOf(0, 1, 0, 0);
    const levels = Float32Array.from({ length: 16 }, (_, i) => (i * 7) % 16);
    const input = inputOf({
      counts,
      levels,
      latents: Float32Array.of(2, 10),
      latentStride: 1,
      queryCount: 1,
      leastStep: 0.25,
    });
    const { scores } = scored(input);
    scores.forEach((score, t) => {
      const block = input.blocks.subarray(16 * Math.floor(t / BLOCK_TOKENS));
      expect(score).toBe(10 + 2 * levels[nibbleAt(block, 0, t % BLOCK_TOKENS)]);
    });
  });

  it("choose how bytes add up by what the planes hold: whole bytes, some high bytes, none", () => {
    const counts = countsOf(0, 20, 0, 0);
    const latents = Float32Array.from({ length: 21 }, (_, c) => (c < 3 ? 1 : 0.02));
    const setOfStep = (leastStep: number): ReadSet => {
      const input = inputOf({ counts, latents, latentStride: 1, queryCount: 1, leastStep });
      expectDefinition(input);
      return scored(input).sets[0];
    };
    expect(setOfStep(1e-9)).toMatchObject({ runs: [], lowBits: 8 });
    const some = setOfStep(1e-3);
    expect(some.wideCount).toBe(3);
    expect(some.runs.length).toBeGreaterThan(1);
    expect(setOfStep(0.1)).toMatchObject({ runs: [20], wideCount: 0 });
  });
});

/** Inputs at the ends of what a set must hold. */
function edges(): Record<string, Input> {
  const wide = countsOf(127, 1, 0, 0);
  const disjoint = inputOf({ counts: countsOf(0, 4, 0, 0), queryCount: 4, leastStep: 1e-9, seed: 3 });
  return {
    "zero queries": inputOf({ latents: new Float32Array(3 * 21), latentStride: 3 }),
    "zero levels": inputOf({ levels: new Float32Array(16 * placesOf(MANY).length) }),
    "constant planes among others": inputOf({
      levels: noiseLevels(placesOf(MANY)).map((x, i) => ((i >> 4) % 2 ? 0.3 : x)),
    }),
    "one huge level": inputOf({ levels: noiseLevels(placesOf(MANY)).map((x, i) => (i === 40 ? 1e18 : x)) }),
    "one huge latent": inputOf({ latents: noise(21 * 3, 2).map((x, i) => (i === 30 ? -1e18 : x)), latentStride: 3 }),
    "a huge centre": inputOf({ latents: noise(21 * 3, 2).map((x, i) => (i >= 60 ? 1e6 : x)), latentStride: 3 }),
    denormals: inputOf({ latents: noise(21 * 3, 2).map((x) => x * 1e-40), latentStride: 3, leastStep: 1e-37 }),
    "a tiny step: the ranges decide": inputOf({ leastStep: 1e-37 }),
    "a huge step": inputOf({ leastStep: 1e30 }),
    "as many planes as a set may have": inputOf({ counts: wide, leastStep: 1e-6 }),
    "that many planes without a range": inputOf({ counts: wide, levels: new Float32Array(16 * MOST_SET_PLANES) }),
    "one plane": inputOf({ counts: countsOf(0, 1, 0, 0), leastStep: 1e-9 }),
    "queries that need different planes": {
      ...disjoint,
      latents: disjoint.latents.map((x, i) =>
        i % disjoint.latentStride === Math.floor(i / disjoint.latentStride) ? 5 : x * 1e-6,
      ),
    },
  };
}

describe.each(PLATFORMS)("blockMaxima on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it.each([0, 1, 2, 3, 5, 33])("of %i blocks are the greatest of what was there and 32 scores", (blocks) => {
    const [scores, before] = [noise(blocks * 32, 5), noise(blocks, 6)];
    scores.forEach((_, i) => {
      // The greatest in every place in turn; some blocks below what was there.
      if (i % 32 === Math.floor(i / 32) % 32) scores[i] = 2;
      if (Math.floor(i / 32) % 3 === 2) scores[i] -= 7;
    });
    if (blocks) before[0] = -Infinity;
    const got = withArena(runtime, (arena) => {
      const maximaPtr = arena.put(before);
      runtime.kernels.blockMaxima(maximaPtr, arena.putAtEnd(scores), blocks);
      return arena.f32(maximaPtr, blocks);
    });
    expectSame(
      got,
      before.map((x, i) => Math.max(x, ...scores.subarray(32 * i, 32 * i + 32))),
    );
  });
});

describe("scores on planes, everywhere", () => {
  it("have the same bits as their twins, sets included, for every mixture of widths", async () => {
    const same = await sameBits();
    MIXTURES.forEach((counts, i) => {
      const input = inputOf({ counts, queryCount: 1 + (i % 4), setCount: 2, blocksPerSet: 2, seed: i + 1 });
      for (const leastStep of [1e-9, 1e-3, 0.1]) {
        same((runtime, arena) => {
          const { sets, scores } = run(runtime, arena, { ...input, leastStep });
          return [...sets.map(({ bytes }) => bytes), scores];
        });
      }
    });
  });

  it.each(Object.entries(edges()))("same bits for %s", async (_, input) => {
    const same = await sameBits();
    same((runtime, arena) => {
      const { sets, scores } = run(runtime, arena, input);
      return [...sets.map(({ bytes }) => bytes), scores];
    });
  });

  it("same bits for steps that nothing divides by", async () => {
    const same = await sameBits();
    for (const [scale, leastStep] of [
      [0, 1e-45],
      [1e-42, 1e-45],
      [1e-35, 1e-40],
    ]) {
      const latents = noise(21 * 3, 7).map((x) => x * scale);
      same((runtime, arena) => {
        const { sets, scores } = run(runtime, arena, inputOf({ latents, latentStride: 3, leastStep }));
        return [...sets.map(({ bytes }) => bytes), scores];
      });
    }
  });
});
