import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import {
  BLOCK_TOKENS,
  channelCount,
  GROUP,
  levelParts,
  MIX_BLOCKS,
  MIX_LEVEL,
  MIX_TOTAL,
  mixScaleCount,
  mixScratchBytes,
  mixSumBytes,
  planeCount,
  STRIP_ROWS,
  stripCount,
  valueBlockBytes,
  type WidthCounts,
} from "../../src/codec/layout.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { anyBlocks, countsOf, MIXTURES, nibbleAt, placesOf } from "../support/coded-group.ts";
import { expectSame, sameBits } from "../support/exact.ts";
import { PLATFORMS } from "../support/platforms.ts";

const MANY = countsOf(1, 3, 7, 9);

interface Input {
  counts: WidthCounts;
  /** (level parts, 16), whole numbers up to MIX_LEVEL. */
  levels: Int16Array;
  /** (256) */
  norms: Float32Array;
  queryCount: number;
  /** (queryCount, weightStride): 32 weights a block that is held. */
  weights: Float32Array;
  weightStride: number;
  /** (blocks held, planes, 16), then 32 norm codes each. */
  blocks: Uint8Array;
  /** Blocks mixed, in this order, each with its weights at [which block, whose weights]. */
  list: [block: number, weights: number][];
  /** What the sums start from: mixSumBytes. */
  start: Float32Array;
}

const HELD = 3;
const list = (count: number): [number, number][] => Array.from({ length: count }, (_, i) => [i % HELD, (2 * i) % HELD]);

/** Noise for everything that is not given. */
function inputOf(given: Partial<Input> & { seed?: number } = {}): Input {
  const { counts = MANY, queryCount = 3, seed = 1 } = given;
  const weightStride = HELD * BLOCK_TOKENS + (seed % 4);
  return {
    counts,
    levels: Int16Array.from(noise(16 * levelParts(counts), seed), (x) => Math.round(x * MIX_LEVEL)),
    norms: noise(256, seed + 1).map((x) => 1 + x),
    queryCount,
    weights: noise(queryCount * weightStride, seed + 2).map((x) => Math.max(0, x) ** 4),
    weightStride,
    blocks: anyBlocks(counts, HELD, BLOCK_TOKENS, seed + 3),
    list: list(5),
    start: noise(mixSumBytes(counts, queryCount) / 4, seed + 4),
    ...given,
  };
}

/** Where sums lie: of a part and lane, of a row, of all weights; and whose query each is. */
function sumsAt(counts: WidthCounts, queryCount: number) {
  const parts = levelParts(counts);
  const rows = STRIP_ROWS * stripCount(counts);
  const rowsFrom = 4 * parts * queryCount;
  const totalsFrom = rowsFrom + rows * queryCount;
  return {
    parts,
    rows: 4 * (planeCount(counts) - parts),
    part: (part: number, q: number, lane: number) => 4 * (part * queryCount + q) + lane,
    row: (row: number, q: number) =>
      rowsFrom + STRIP_ROWS * (Math.floor(row / STRIP_ROWS) * queryCount + q) + (row % STRIP_ROWS),
    total: (q: number) => totalsFrom + q,
    queryOf: (i: number) =>
      i >= totalsFrom ? i - totalsFrom : Math.floor(i < rowsFrom ? i / 4 : (i - rowsFrom) / STRIP_ROWS) % queryCount,
  };
}

/** Low bytes of the 16 levels of each part, then high bytes. */
function levelBytes(levels: Int16Array): Uint8Array {
  const halves = Array.from({ length: levels.length / 16 }, (_, part) => levels.subarray(16 * part, 16 * part + 16));
  return Uint8Array.from(halves.flatMap((own) => [...own.map((x) => x & 255), ...own.map((x) => (x >> 8) & 255)]));
}

function mixPlanes(runtime: Runtime, arena: Arena, input: Input): Float32Array {
  const { counts, queryCount, weightStride, start } = input;
  expect(4 * start.length).toBe(mixSumBytes(counts, queryCount));
  const group = new Uint32Array(GROUP.bytes / 4);
  group.set([counts.count8, counts.count4, counts.count2, counts.count1, arena.put(levelBytes(input.levels))]);
  group[GROUP.norms / 4] = arena.put(input.norms);
  group[GROUP.queryCount / 4] = queryCount;
  group[GROUP.weightStride / 4] = weightStride;
  const [groupPtr, sumsPtr] = [arena.put(group), arena.put(start)];
  const [scratchPtr, weightsPtr] = [arena.out(mixScratchBytes(queryCount)), arena.put(input.weights)];
  const listPtr = arena.out(8 * input.list.length);
  const blocksPtr = arena.putAtEnd(input.blocks);
  const pairs = input.list.flatMap(([block, weights]) => [
    blocksPtr + block * valueBlockBytes(planeCount(counts)),
    weightsPtr + 4 * BLOCK_TOKENS * weights,
  ]);
  arena.putIn(listPtr, Uint32Array.from(pairs));
  runtime.kernels.mixPlanes(sumsPtr, listPtr, groupPtr, scratchPtr, input.list.length);
  return arena.f32(sumsPtr, start.length);
}

/**
 * Sums in f64, and what may lie between them and the kernel's. A weight is off by half a step of its MIX_BLOCKS blocks,
 * times the level; in f32 by few roundings of weight, step and product, and one a sum.
 */
function exactSums({ counts, levels, norms, queryCount, weights, weightStride, blocks, list, start }: Input) {
  const planes = planeCount(counts);
  const blockBytes = valueBlockBytes(planes);
  const sums = Float64Array.from(start);
  const sizes = sums.map(Math.abs);
  const bounds = new Float64Array(start.length);
  const at = sumsAt(counts, queryCount);
  const add = (i: number, weight: number, level: number, step: number): void => {
    sums[i] += weight * level;
    sizes[i] += Math.abs(weight * level);
    bounds[i] += Math.abs(level) * (step / 2);
  };
  for (let first = 0; first < list.length; first += MIX_BLOCKS) {
    const few = list.slice(first, first + MIX_BLOCKS).map(([block, from]) => {
      const own = blocks.subarray(block * blockBytes, (block + 1) * blockBytes);
      return { own, from: from * BLOCK_TOKENS };
    });
    for (let q = 0; q < queryCount; q++) {
      const weighted = few.map(({ own, from }) =>
        Array.from(own.subarray(-BLOCK_TOKENS), (code, t) => weights[q * weightStride + from + t] * norms[code]),
      );
      const step = Math.max(...weighted.flat()) / MIX_LEVEL;
      const stepOfSum = weighted.flat().reduce((a, b) => a + b, 0) / MIX_TOTAL;
      few.forEach(({ own }, i) => {
        for (let t = 0; t < BLOCK_TOKENS; t++) {
          for (let part = 0; part < at.parts; part++) {
            add(at.part(part, q, (t >> 1) & 3), weighted[i][t], levels[16 * part + nibbleAt(own, part, t)], step);
          }
          for (let row = 0; row < at.rows; row++) {
            const bit = (nibbleAt(own, at.parts + (row >> 2), t) >> (row & 3)) & 1;
            add(at.row(row, q), weighted[i][t], bit, stepOfSum);
          }
          add(at.total(q), weighted[i][t], 1, stepOfSum);
        }
      });
    }
  }
  return { sums, bounds: bounds.map((x, i) => x * (1 + 1e-6) + (8 + list.length) * 2 ** -24 * sizes[i] + 1e-41) };
}

/** Partial sums to latents: (channels, latentStride). */
function foldMix(
  runtime: Runtime,
  arena: Arena,
  counts: WidthCounts,
  sums: Float32Array,
  scales: Float32Array,
  queryCount: number,
  latentStride: number,
): Float32Array {
  const latentCount = channelCount(counts) * latentStride;
  const countsPtr = arena.put(Uint32Array.of(counts.count8, counts.count4, counts.count2, counts.count1));
  const [sumsPtr, latentsPtr] = [arena.put(sums), arena.out(4 * latentCount)];
  runtime.kernels.foldMix(latentsPtr, sumsPtr, arena.putAtEnd(scales), countsPtr, queryCount, latentStride);
  return arena.f32(latentsPtr, latentCount);
}

describe.each(PLATFORMS)("mixPlanes on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });
  const mixed = (input: Input) => withArena(runtime, (arena) => mixPlanes(runtime, arena, input));

  function expectDefinition(input: Input): void {
    const { sums, bounds } = exactSums(input);
    mixed(input).forEach((sum, i) => {
      if (!(Math.abs(sum - sums[i]) <= bounds[i])) expect(sum, `sum ${i}, bound ${bounds[i]}`).toBe(sums[i]);
    });
  }

  it("is the definition to half a step of a weight, for every mixture of widths", () => {
    MIXTURES.forEach((counts, i) => {
      expectDefinition(inputOf({ counts, queryCount: 1 + (i % 9), seed: i + 1 }));
    });
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9])("takes %i queries, none touched by the others", (queryCount) => {
    const input = inputOf({ queryCount });
    expectDefinition(input);
    const together = mixed(input);
    const { queryOf } = sumsAt(MANY, queryCount);
    const sumsOf = (all: Float32Array, q: number): Float32Array => all.filter((_, i) => queryOf(i) === q);
    for (let q = 0; q < queryCount; q++) {
      const weights = input.weights.slice(q * input.weightStride);
      const alone = mixed({ ...input, queryCount: 1, weights, start: sumsOf(input.start, q) });
      expectSame(alone, sumsOf(together, q), `query ${q}`);
    }
  });

  it.each([0, 1, 2, 3, 4, 5, 7, 8, 9, 13])("takes %i blocks, in any order and more than once", (count) => {
    expectDefinition(inputOf({ list: list(count) }));
    expectDefinition(inputOf({ list: list(count).reverse(), seed: 2 }));
    expectDefinition(inputOf({ list: list(count).map(() => [2, 0]), seed: 3 }));
  });

  it("four blocks at a time are the whole: calls add up", () => {
    const input = inputOf({ list: list(9) });
    const half = mixed({ ...input, list: list(9).slice(0, 4) });
    const most = mixed({ ...input, list: list(9).slice(4, 8), start: half });
    expectSame(mixed({ ...input, list: list(9).slice(8), start: most }), mixed(input));
  });

  it("is the definition for any group, any weights and any order", () => {
    const given = fc.record({
      counts: fc.tuple(fc.nat(3), fc.nat(8), fc.nat(20), fc.nat(30)).map((counts) => countsOf(...counts)),
      queryCount: fc.integer({ min: 1, max: 9 }),
      list: fc.array(fc.tuple(fc.nat(HELD - 1), fc.nat(HELD - 1)), { maxLength: 9 }),
      seed: fc.integer({ min: 1, max: 1000 }),
    });
    const power = fc.double({ min: -80, max: 80, noNaN: true });
    fc.assert(
      fc.property(given, power, (some, log) => {
        const input = inputOf(some);
        expectDefinition({ ...input, weights: input.weights.map((x) => x * 2 ** log) });
      }),
      { numRuns: 40 },
    );
  });

  it("weights twice as great give sums twice as great, bit for bit", () => {
    const input = inputOf({ start: new Float32Array(mixSumBytes(MANY, 3) / 4) });
    const twice = mixed({ ...input, weights: input.weights.map((x) => 2 * x) });
    expectSame(
      twice,
      mixed(input).map((x) => 2 * x),
    );
  });

  it.each(Object.entries(edges()))("takes %s", (_, input) => expectDefinition(input));

  it.each<[string, Partial<Input>]>([
    ["weights of zero", { weights: new Float32Array(HELD * BLOCK_TOKENS), weightStride: 0 }],
    ["norms of zero", { norms: new Float32Array(256) }],
  ])("%s leave the sums as they were", (_, given) => {
    const input = inputOf(given);
    expectSame(mixed(input), input.start);
  });

  it("weights too small to divide by count as none", () => {
    const input = inputOf({ norms: new Float32Array(256).fill(1) });
    for (const greatest of [1e-45, 1e-38]) {
      expectSame(mixed({ ...input, weights: input.weights.map(() => greatest) }), input.start, `${greatest}`);
    }
    expectDefinition({ ...input, weights: input.weights.map(() => 3e-35) });
  });

  it("one token with all the weight gives its own levels and bits", () => {
    const input = inputOf({ norms: new Float32Array(256).fill(1), list: [[0, 0]], queryCount: 1 });
    const at = sumsAt(MANY, 1);
    for (let token = 0; token < BLOCK_TOKENS; token++) {
      const weights = input.weights.map((_, i) => (i === token ? 1 : 0));
      const sums = mixed({ ...input, weights, start: input.start.map(() => 0) });
      for (let part = 0; part < at.parts; part++) {
        const level = input.levels[16 * part + nibbleAt(input.blocks, part, token)];
        const lanes = sums.subarray(4 * part, 4 * part + 4);
        expect(Math.abs(lanes.reduce((a, b) => a + b) - level)).toBeLessThanOrEqual(2 ** -22 * Math.abs(level));
        lanes.forEach((x, lane) => {
          if (lane !== ((token >> 1) & 3)) expect(x).toBe(0);
        });
      }
      for (let row = 0; row < at.rows; row++) {
        const bit = (nibbleAt(input.blocks, at.parts + (row >> 2), token) >> (row & 3)) & 1;
        expect(Math.abs(sums[at.row(row, 0)] - bit)).toBeLessThanOrEqual(2 ** -22);
      }
      expect(Math.abs(sums[at.total(0)] - 1)).toBeLessThanOrEqual(2 ** -22);
    }
  });

  it.each([MIX_LEVEL, -MIX_LEVEL])("four blocks of the greatest weights and levels of %i do not overflow", (level) => {
    const input = inputOf({ norms: new Float32Array(256).fill(1), queryCount: 4, list: list(4) });
    const at = sumsAt(MANY, 4);
    const sums = mixed({
      ...input,
      blocks: input.blocks.map(() => 255),
      weights: input.weights.map(() => 0.7),
      levels: input.levels.map(() => level),
      start: input.start.map(() => 0),
    });
    for (let q = 0; q < 4; q++) {
      for (let part = 0; part < at.parts; part++) {
        for (let lane = 0; lane < 4; lane++) {
          expect(Math.abs(sums[at.part(part, q, lane)] / (0.7 * 32 * level) - 1)).toBeLessThan(1e-6);
        }
      }
      // 128 equal weights are a whole number of steps each, less than half a step off.
      for (let row = 0; row < at.rows; row++) expect(sums[at.row(row, q)]).toBe(sums[at.total(q)]);
      expect(Math.abs(sums[at.total(q)] / (0.7 * 128) - 1)).toBeLessThan(64 / MIX_TOTAL);
    }
  });
});

/** Inputs at the ends of what weights, norms and levels may be. */
function edges(): Record<string, Input> {
  const input = inputOf();
  const ones = new Float32Array(256).fill(1);
  return {
    "equal weights": { ...input, weights: input.weights.map(() => 1 / 96), norms: ones },
    "one token with all the weight, of three blocks": {
      ...input,
      weights: input.weights.map((_, i) => (i % input.weightStride === 40 ? 1 : 0)),
    },
    "one query without weight": { ...input, weights: input.weights.map((x, i) => (i < input.weightStride ? 0 : x)) },
    "one block without weight": {
      ...input,
      weights: input.weights.map((x, i) => (i % input.weightStride < 32 ? 0 : x)),
    },
    "some norms of zero": { ...input, norms: input.norms.map((x, i) => (i % 2 ? 0 : x)) },
    "huge norms": { ...input, norms: input.norms.map((x) => x * 65504) },
    "a token of a huge norm": { ...input, norms: input.norms.map((x, i) => (i === input.blocks.at(-1) ? 1e18 : x)) },
    "weights near the least that counts": { ...input, weights: input.weights.map((x) => x * 1e-30) },
    "levels of zero": { ...input, levels: new Int16Array(input.levels.length) },
    "levels of one": { ...input, levels: input.levels.map(Math.sign) },
    "the greatest levels": { ...input, levels: input.levels.map((x) => Math.sign(x) * MIX_LEVEL) },
    "no channels": inputOf({ counts: countsOf(0, 0, 0, 0) }),
  };
}

describe.each(PLATFORMS)("foldMix on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it("adds the scaled parts of each channel, zeros where there is no query, for every mixture of widths", () => {
    MIXTURES.forEach((counts, i) => {
      const [queryCount, gap] = [1 + (i % 5), i % 3];
      const stride = queryCount + gap;
      const sums = noise(mixSumBytes(counts, queryCount) / 4, i + 1);
      const factors = noise(mixScaleCount(counts), i + 2);
      const latents = withArena(runtime, (arena) => foldMix(runtime, arena, counts, sums, factors, queryCount, stride));
      const at = sumsAt(counts, queryCount);
      const constants = at.parts + STRIP_ROWS * stripCount(counts);
      const expected = new Float64Array(channelCount(counts) * stride);
      for (let q = 0; q < queryCount; q++) {
        for (const { channel, plane, shift, bits } of placesOf(counts)) {
          if (channel === undefined) continue;
          if (bits === 4) {
            const from = at.part(plane, q, 0);
            expected[channel * stride + q] += factors[plane] * sums.subarray(from, from + 4).reduce((a, b) => a + b, 0);
            continue;
          }
          const thin = channel - counts.count8 - counts.count4;
          expected[channel * stride + q] += factors[constants + thin] * sums[at.total(q)];
          for (let bit = shift; bit < shift + bits; bit++) {
            const row = 4 * (plane - at.parts) + bit;
            expected[channel * stride + q] += factors[at.parts + row] * sums[at.row(row, q)];
          }
        }
      }
      expect(latents.length).toBe(expected.length);
      latents.forEach((latent, at) => {
        if (at % stride >= queryCount) expect(latent).toBe(0);
        else if (!(Math.abs(latent - expected[at]) <= 1e-6)) expect(latent).toBe(expected[at]);
      });
    });
  });
});

interface Weights {
  blocks: number;
  queries: number;
  /** Elements from the last block of a query to the first of the next. */
  gap: number;
  seed?: number;
}

const factorsOf = (queries: number): Float32Array => noise(queries, queries + 1).map((x) => 1 + x);

const weightsOf = ({ blocks, queries, gap, seed = 1 }: Weights): Float32Array =>
  noise(queries * (32 * blocks + gap), seed).map((x) => Math.abs(x));

function blockWeights(
  runtime: Runtime,
  arena: Arena,
  shape: Weights,
  weights = weightsOf(shape),
  factors = factorsOf(shape.queries),
): Float32Array {
  const { blocks, queries, gap } = shape;
  const stride = 32 * blocks + gap;
  const [worthPtr, factorsPtr] = [arena.out(4 * blocks), arena.put(factors)];
  const weightsPtr = arena.putAtEnd(weights.subarray(0, blocks ? (queries - 1) * stride + 32 * blocks : 0));
  runtime.kernels.blockWeights(worthPtr, weightsPtr, factorsPtr, blocks, queries, stride);
  return arena.f32(worthPtr, blocks);
}

describe.each(PLATFORMS)("blockWeights on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it.each([0, 1, 2, 3, 5, 8, 33])("of %i blocks are the greatest over queries, each times its factor", (blocks) => {
    for (const queries of [1, 2, 3, 9]) {
      for (const gap of [0, 5]) {
        const shape = { blocks, queries, gap };
        const [weights, factors] = [weightsOf(shape), factorsOf(queries)];
        const worth = withArena(runtime, (arena) => blockWeights(runtime, arena, shape));
        worth.forEach((x, i) => {
          const sums = Array.from(factors, (factor, q) => {
            const from = q * (32 * blocks + gap) + 32 * i;
            return factor * weights.subarray(from, from + 32).reduce((a, b) => a + b, 0);
          });
          expect(Math.abs(x - Math.max(...sums))).toBeLessThan(1e-5);
        });
      }
    }
  });

  it("of no weight, or with factors of zero, are zero", () => {
    const shape = { blocks: 2, queries: 3, gap: 8 };
    const none = withArena(runtime, (arena) => blockWeights(runtime, arena, shape, new Float32Array(256)));
    expectSame(none, new Float32Array(2));
    const worthless = withArena(runtime, (arena) =>
      blockWeights(runtime, arena, shape, weightsOf(shape), new Float32Array(3)),
    );
    expectSame(worthless, new Float32Array(2));
  });
});

describe("sums of value planes, everywhere", () => {
  it("have the same bits as their twins for every mixture of widths", async () => {
    const same = await sameBits();
    MIXTURES.forEach((counts, i) => {
      const queryCount = 1 + (i % 9);
      const input = inputOf({ counts, queryCount, list: list(i % 10), seed: i + 1 });
      const scales = noise(mixScaleCount(counts), i + 2);
      same((runtime, arena) => {
        const sums = mixPlanes(runtime, arena, input);
        return [sums, foldMix(runtime, arena, counts, sums, scales, queryCount, queryCount + (i % 3))];
      });
    });
  });

  it.each(Object.entries(edges()))("same bits for %s", async (_, input) => {
    const same = await sameBits();
    same((runtime, arena) => [mixPlanes(runtime, arena, input)]);
  });

  it("same bits for weights too small to divide by, and for the greatest of all", async () => {
    const same = await sameBits();
    const input = inputOf({ norms: new Float32Array(256).fill(1) });
    for (const scale of [1e-45, 1e-40, 1e-38, 2.3e-35, 2.5e-35, 1e30]) {
      same((runtime, arena) => [
        mixPlanes(runtime, arena, { ...input, weights: input.weights.map((x) => x * scale) }),
        mixPlanes(runtime, arena, { ...input, weights: input.weights.map(() => scale) }),
      ]);
    }
  });

  it("same bits for the worth of blocks", async () => {
    const same = await sameBits();
    for (const blocks of [0, 1, 2, 5, 33]) {
      for (const queries of [1, 2, 3, 9]) {
        same((runtime, arena) => [blockWeights(runtime, arena, { blocks, queries, gap: 3, seed: blocks + 1 })]);
      }
    }
  });
});
