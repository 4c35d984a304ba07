/** Budgets: which tokens are attended to, what is read for it, and that enough budget changes nothing. */
import { beforeAll, describe, expect, it } from "vitest";
import type { AttendReport } from "../../src/cache/attention.ts";
import { nthGreatest } from "../../src/cache/greatest.ts";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { type CacheOptions, SELECTIONS } from "../../src/cache/options.ts";
import { compress } from "../../src/codec/compress.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import {
  appendRows,
  attended,
  differenceOf,
  naiveAttention,
  openFixture,
  queriesAt,
  restoredRows,
  rowsOf,
  someQueries,
} from "../support/live-cache.ts";
import { noise } from "../support/noise.ts";
import { pairSpans } from "../support/pair-spans.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { NO_ROTARY, type Stream, streamOf } from "../support/streams.ts";
import { TinyCache } from "../support/tiny-cache.ts";

const ENDS = { sinks: 2, recent: 6 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

const BLOCK_MODES: [string, Partial<CodecOptions>, Partial<CacheOptions>][] = [
  ["planes of a layer", { anchorSpan: 64 }, { selection: "blocks" }],
  ["planes of heads", { anchorSpan: null, grouping: "head" }, { selection: "blocks" }],
  ["planes of a layer, a span a pair", { anchorSpan: pairSpans(16) }, { selection: "blocks" }],
  ["landmarks of a layer", { anchorSpan: 32 }, { selection: "landmarks" }],
  ["landmarks of heads, span 1", { anchorSpan: 1, grouping: "head" }, {}],
];

describe.each(BLOCK_MODES)("blocks by %s", (_, codec, given) => {
  it("a budget that is enough for all tokens is none, bit for bit; one that is not attends to that many", async () => {
    const source = new TinyCache({ layers: 1, tokens: 8 + 230, noise: 0.3 });
    const coded = await compress(runtime, source, { ...ENDS, ...codec });
    const queries = someQueries(source.geometry);
    using all = KvCache.open(runtime, coded, given);
    const out = attended(all, 0, queries);
    for (const budget of [230, 1000, 0.999, 8 * 32 - 31]) {
      using cache = KvCache.open(runtime, coded, { ...given, budget });
      expect(attended(cache, 0, queries)).toEqual(out);
    }
    for (const [budget, tokens] of [
      [1, 32],
      [32, 32],
      [33, 64],
      [0.5, 128],
      [0.01, 32],
    ]) {
      using cache = KvCache.open(runtime, coded, { ...given, budget });
      const chosen = chosenTokens(cache, queries, 2);
      // Blocks of outliers come on top: of 8 blocks, one. The last block has 6 tokens.
      const blocks = new Set(chosen.map((token) => token >> 5));
      const extra = given.selection === "landmarks" || codec.anchorSpan === 1 ? 1 : 0;
      expect(blocks.size).toBe(Math.min(8, tokens / 32 + extra));
      expect(chosen.length).toBe(32 * blocks.size - (blocks.has(7) ? 26 : 0));
    }
  });

  it("what is chosen is attended to as restored rows are, the rest not at all", async () => {
    const source = new TinyCache({ layers: 1, tokens: 8 + 230, noise: 0.3 });
    const coded = await compress(runtime, source, { ...ENDS, ...codec });
    using cache = KvCache.open(runtime, coded, { ...given, budget: 70, mixTolerance: 0, scoreStep: 1e-4 });
    const rows = restoredRows(runtime, coded);
    for (let seed = 1; seed < 5; seed++) {
      const queries = someQueries(source.geometry, 3, seed, 1);
      const scores = cache.scores(0, queries);
      const out = attended(cache, 0, queries);
      const { weights } = naiveAttention(rows, source.geometry, queries);
      const expected = new Float64Array(queries.length);
      for (let q = 0; q < 6; q++) {
        let sum = 0;
        for (let t = 0; t < 238; t++) {
          if (scores[q * 238 + t] === -Infinity) continue;
          sum += weights[q * 238 + t];
          const row = (Math.floor(q / 3) * 238 + t) * 32;
          for (let d = 0; d < 32; d++) expected[q * 32 + d] += weights[q * 238 + t] * rows.values[row + d];
        }
        for (let d = 0; d < 32; d++) expected[q * 32 + d] /= sum;
      }
      expect(differenceOf(out, expected)).toBeLessThan(1e-3);
    }
  });
});

const TOKEN_MODES: [string, Partial<CodecOptions>][] = [
  ["a layer", { anchorSpan: 64 }],
  ["heads", { anchorSpan: null, grouping: "head" }],
  ["heads of 8 bits", { anchorSpan: 32, grouping: "head", keyBits: 8, valueBits: 4 }],
  ["a layer, a span a pair", { anchorSpan: pairSpans(16) }],
];

describe.each(TOKEN_MODES)("tokens by planes of %s", (_, codec) => {
  const tokens = 8 + 32 * 40 + 5;
  const source = new TinyCache({ layers: 1, tokens, noise: 0.3 });
  const queryHeads = 6;

  it("a budget that is enough for all is none, bit for bit; one that is not attends to that many, each head to its own", async () => {
    const coded = await compress(runtime, source, { ...ENDS, ...codec });
    const queries = someQueries(source.geometry, 3, 2, 1);
    const count = tokens - ENDS.sinks - ENDS.recent;
    using all = KvCache.open(runtime, coded);
    const out = attended(all, 0, queries);
    for (const budget of [count, 10 * count, 1 - 1e-9]) {
      using cache = KvCache.open(runtime, coded, { budget });
      expect(attended(cache, 0, queries)).toEqual(out);
    }
    for (const [budget, expected] of [
      [1, 1],
      [33, 33],
      [0.5, Math.ceil(count / 2)],
      [1 / 32, Math.ceil(count / 32)],
      [count - 1, count - 1],
    ]) {
      using cache = KvCache.open(runtime, coded, { budget });
      const chosen = Array.from({ length: queryHeads }, (_, q) =>
        chosenTokens(cache, queries.subarray(), 2, q, tokens),
      );
      for (const mine of chosen) expect(mine.length).toBe(expected);
      expect(chosen[1]).toEqual(chosen[0]);
      if (budget === 33) expect(chosen[3]).not.toEqual(chosen[0]);
    }
  });

  it("what is chosen is attended to as restored rows are, the rest as their mean with about the weight of all of them", async () => {
    const coded = await compress(runtime, source, { ...ENDS, ...codec });
    // Steps of scores that are chosen by are 20 of these.
    using cache = KvCache.open(runtime, coded, { budget: 100, mixTolerance: 0, scoreStep: 5e-6 });
    const rows = restoredRows(runtime, coded);
    const mean = Float64Array.from({ length: 64 }, (_, i) => {
      let sum = 0;
      for (let t = 2; t < 2 + 32 * 40; t++) sum += rows.values[((i >> 5) * tokens + t) * 32 + (i % 32)];
      return sum / (32 * 40);
    });
    for (let seed = 1; seed < 5; seed++) {
      const queries = someQueries(source.geometry, 3, seed, 1);
      const scores = cache.scores(0, queries);
      const out = attended(cache, 0, queries);
      const { weights } = naiveAttention(rows, source.geometry, queries);
      for (let q = 0; q < queryHeads; q++) {
        const kept = new Float64Array(32);
        let [sum, rest] = [0, 0];
        for (let t = 0; t < tokens; t++) {
          const weight = weights[q * tokens + t];
          if (scores[q * tokens + t] === -Infinity) {
            rest += weight;
            continue;
          }
          sum += weight;
          const row = (Math.floor(q / 3) * tokens + t) * 32;
          for (let d = 0; d < 32; d++) kept[d] += weight * rows.values[row + d];
        }
        // (kept + weight * mean) / (sum + weight) = out, solved for the weight.
        let [both, square] = [0, 0];
        for (let d = 0; d < 32; d++) {
          const along = mean[32 * Math.floor(q / 3) + d] - out[q * 32 + d];
          both += along * (out[q * 32 + d] * sum - kept[d]);
          square += along * along;
        }
        const weight = both / square;
        const expected = kept.map((x, d) => (x + weight * mean[32 * Math.floor(q / 3) + d]) / (sum + weight));
        expect(differenceOf(out.subarray(q * 32, (q + 1) * 32), expected)).toBeLessThan(2e-3);
        expect(weight / rest).toBeGreaterThan(0.7);
        expect(weight / rest).toBeLessThan(1.4);
      }
    }
  });

  it("has the same mean however the tokens came", async () => {
    // Without rotation there is one span for all.
    const anchorSpan = Array.isArray(codec.anchorSpan) ? 64 : (codec.anchorSpan as number | null);
    const given = { ...ENDS, ...codec, anchorSpan, budget: 64, fitTokens: 200, driftLimit: null } as const;
    const stream = streamOf({ tokens: 900 });
    const queries = someQueries({ layerCount: 1, kvHeads: 2, headDim: 32 }, 2, 5, 3);
    const outs = [[900], [500, 507, 640, 641, 900], [900, -420, 900]].map((steps) => {
      using cache = KvCache.create(runtime, { layerCount: 1, kvHeads: 2, headDim: 32 }, NO_ROTARY, given);
      appendRows(cache, 0, stream, 0, 210);
      cache.settle();
      let length = 210;
      for (const to of steps) {
        if (to < 0) cache.truncate(-to);
        else appendRows(cache, 0, stream, length, to);
        length = Math.abs(to);
        attended(cache, 0, queries);
      }
      return attended(cache, 0, queries);
    });
    expect(outs[1]).toEqual(outs[0]);
    // What was exact when it was forgotten comes again as it was; block borders are the same.
    expect(outs[2]).toEqual(outs[0]);
  });
});

it("of a context so long that blocks are sampled, each query's best tokens are chosen", async () => {
  const tokens = 8 + 32 * 2100;
  const source = new TinyCache({ layers: 1, kvHeads: 1, tokens, noise: 0.3 });
  const coded = await compress(runtime, source, { ...ENDS, anchorSpan: null });
  using all = KvCache.open(runtime, coded);
  using cache = KvCache.open(runtime, coded, { budget: 1500 });
  const queries = someQueries(source.geometry, 3, 2, 1);
  const scores = all.scores(0, queries);
  const chosen = new Set(chosenTokens(cache, queries, 2, 0, tokens));
  expect(chosen.size).toBe(1500);
  for (let q = 0; q < 3; q++) {
    const mine = scores.subarray(q * tokens + 2, (q + 1) * tokens - 6);
    const best = Array.from(mine.keys()).sort((a, b) => mine[b] - mine[a]);
    // Of a share of 500 all, were every block looked at; a quarter of the blocks says where it ends.
    for (const token of best.slice(0, 400)) expect(chosen.has(token)).toBe(true);
  }
});

/** Numbers of the coded tokens that a query attends to. */
function chosenTokens(
  cache: KvCache,
  queries: Float32Array,
  sinks: number,
  query = 0,
  tokens = cache.layerLength(0),
): number[] {
  const first = query * tokens + sinks;
  const scores = cache.scores(0, queries).subarray(first, first + cache.codedLength(0));
  return Array.from(scores.keys()).filter((token) => scores[token] > -Infinity);
}

describe.each(SELECTIONS)("a needle, by %s", (selection) => {
  /** A landmark stands for 8 tokens from the first coded one on: it takes that many to move the mean. */
  const needle = (at: number): number[] =>
    selection !== "landmarks" ? [at] : Array.from({ length: 8 }, (_, i) => at - ((at - 2) % 8) + i);

  /** A stream and a cache of it whose token `at` is a needle for queries along a direction of its head. */
  function planted(at: number, head: number): { cache: KvCache; stream: Stream; queries: Float32Array } {
    const stream = streamOf({ tokens: 700 });
    const along = stream.direction(head, 0);
    for (const token of needle(at))
      stream.keys.set(
        along.map((x) => 60 * x),
        (head * 700 + token) * 32,
      );
    const options = { ...ENDS, fitTokens: 300, anchorSpan: 32, budget: 1 / 16, selection, grouping: "head" } as const;
    const cache = KvCache.create(runtime, { layerCount: 1, kvHeads: 2, headDim: 32 }, NO_ROTARY, options);
    // The needle comes after the fit, which then knows nothing of it.
    appendRows(cache, 0, stream, 0, 310);
    cache.settle();
    appendRows(cache, 0, stream, 310, 700);
    const queries = noise(64, 3).map((x) => 0.3 * x);
    for (let d = 0; d < 32; d++) queries[head * 32 + d] += 3 * along[d];
    return { cache, stream, queries };
  }

  it.each([315, 333, 400, 447, 512, 639, 665, 669])("at token %i is attended to", (at) => {
    for (const head of [0, 1]) {
      const { cache, queries } = planted(at, head);
      const scores = cache.scores(0, queries).subarray(head * 700, (head + 1) * 700);
      expect(scores.filter((x) => x > -Infinity).length).toBeLessThan(140);
      expect(needle(at)).toContain(scores.indexOf(Math.max(...scores)));
      cache.dispose();
    }
  });

  it("that was forgotten draws nobody to what it leaves in free places", () => {
    const options = { ...ENDS, fitTokens: 300, anchorSpan: 32, budget: 32, selection, grouping: "head" } as const;
    const chosen = [1, 60].map((size) => {
      const stream = streamOf({ tokens: 700 });
      const along = stream.direction(0, 0);
      // 598 coded tokens are left: 22 in the last block, and 10 of these.
      for (let t = 600; t < 700; t++)
        stream.keys.set(
          along.map((x) => size * x),
          t * 32,
        );
      using cache = KvCache.create(runtime, { layerCount: 1, kvHeads: 2, headDim: 32 }, NO_ROTARY, options);
      appendRows(cache, 0, stream, 0, 310);
      cache.settle();
      appendRows(cache, 0, stream, 310, 700);
      const queries = Float32Array.from({ length: 64 }, (_, i) => 3 * along[i % 32]);
      attended(cache, 0, queries);
      cache.truncate(600);
      return chosenTokens(cache, queries, 2);
    });
    expect(chosen[1]).toEqual(chosen[0]);
    expect(chosen[0]).not.toContain(597);
  });
});

it("landmarks of places that hold no token draw nobody, where all scores lie below zero", () => {
  const stream = streamOf({ tokens: 700 });
  const along = stream.direction(0, 0);
  for (let t = 0; t < 700; t++) {
    // The tokens of the last block, 7 of 32, lie farthest off.
    const depth = t < 690 ? 20 : 40;
    for (let d = 0; d < 32; d++) stream.keys[t * 32 + d] -= depth * along[d];
  }
  const options = { ...ENDS, fitTokens: 300, anchorSpan: 1, budget: 32, keyBits: 3 };
  using cache = KvCache.create(runtime, { layerCount: 1, kvHeads: 2, headDim: 32 }, NO_ROTARY, options);
  appendRows(cache, 0, stream, 0, 700);
  cache.settle();
  cache.truncate(2 + 640 + 7);
  for (let t = 690; t < 697; t++) appendRows(cache, 0, stream, t, t + 1);
  cache.truncate(2 + 640 + 7);
  const queries = Float32Array.from({ length: 64 }, (_, i) => (i < 32 ? 3 * along[i] : 0));
  const chosen = chosenTokens(cache, queries, 2);
  expect(chosen.length).toBeGreaterThan(31);
  expect(chosen.some((token) => token >= 640)).toBe(false);
});

it("landmarks follow tokens that were forgotten and came again", () => {
  const stream = streamOf({ tokens: 600 });
  const options = { ...ENDS, fitTokens: 300, anchorSpan: 1, budget: 32, keyBits: 3 };
  const geometry = { layerCount: 1, kvHeads: 2, headDim: 32 };
  using cache = KvCache.create(runtime, geometry, NO_ROTARY, options);
  appendRows(cache, 0, stream, 0, 310);
  cache.settle();
  appendRows(cache, 0, stream, 310, 600);
  const queries = someQueries(geometry, 2, 5, 3);
  attended(cache, 0, queries);
  // Back by many blocks, and to the same length with other tokens.
  cache.truncate(320);
  const other = streamOf({ tokens: 600, seed: 1 });
  for (let t = 400; t < 408; t++) {
    for (let h = 0; h < 2; h++)
      other.keys.set(
        queries.subarray(64 * h, 64 * h + 32).map((x) => 20 * x),
        (h * 600 + t) * 32,
      );
  }
  appendRows(cache, 0, other, 320, 600);
  const scores = cache.scores(0, queries);
  for (let q = 0; q < 4; q += 2) {
    const mine = scores.subarray(q * 600, (q + 1) * 600);
    const best = mine.indexOf(Math.max(...mine));
    expect(best).toBeGreaterThanOrEqual(400);
    expect(best).toBeLessThan(408);
  }
});

it("outliers, tokens far from their landmark, are always in", () => {
  const stream = streamOf({ tokens: 700 });
  // A single token against the mean of its chunk, loved by no query.
  const at = 2 + 32 * 7 + 3;
  for (let h = 0; h < 2; h++)
    stream.keys.set(
      stream.direction(h, 0).map((x) => -300 * x),
      (h * 700 + at) * 32,
    );
  const options = { ...ENDS, fitTokens: 300, anchorSpan: 1, budget: 32, keyBits: 3 };
  using cache = KvCache.create(runtime, { layerCount: 1, kvHeads: 2, headDim: 32 }, NO_ROTARY, options);
  appendRows(cache, 0, stream, 0, 700);
  cache.settle();
  for (let seed = 1; seed < 6; seed++) {
    const queries = someQueries(cache.geometry, 1, seed);
    const scores = cache.scores(0, queries);
    expect(scores[at]).toBeGreaterThan(-Infinity);
    expect(scores[700 + at]).toBeGreaterThan(-Infinity);
  }
});

describe("bytes of keys", () => {
  it.each(["tokens", "blocks"] as const)(
    "of 1.25 bits and a budget of 1/32: f16 keys are 410 times what is scored; scanned apart, by %s",
    async (selection) => {
      const tokens = 8 + 128 * 32;
      const source = new TinyCache({ layers: 1, kvHeads: 1, headDim: 64, tokens, rank: 40, noise: 0.2, type: "f32" });
      const coded = await compress(runtime, source, { ...ENDS, anchorSpan: 256, keyBits: 1.25 });
      using cache = KvCache.open(runtime, coded, { budget: 1 / 32, selection });
      const report: AttendReport = cache.attend(0, someQueries(source.geometry), new Float32Array(128));
      const [{ books, planes }] = coded.layers[0].keys;
      const bits = planes.length / 128 / 16 / 16;
      expect(bits).toBeCloseTo(1.25, 1);
      const f16Bytes = 2 * 64 * 128 * 32;
      expect(f16Bytes / report.scoredKeyBytes).toBeGreaterThanOrEqual(409.6 * (1.25 / bits));
      const all = planes.length / 128 / 16;
      // Whole planes up to six tenths; of channels of 8 and 4 bits more, where there are more.
      const wide = books.reduce((sum, { width }) => sum + (width === 8 ? 2 : width === 4 ? 1 : 0), 0);
      const leading = Math.max(wide, Math.ceil(0.6 * all));
      expect(leading).toBeLessThan(all);
      // A thirty-second of the codes scores what was chosen; tokens are chosen by all codes, which are read once.
      expect(report.scoredKeyBytes).toBe(planes.length / 32);
      expect(report.scannedKeyBytes).toBe(selection === "blocks" ? 128 * 16 * leading : (31 * planes.length) / 32);
      // What is stored is another thing.
      expect(cache.stats().bytes.codes).toBeGreaterThan(planes.length);
      expect(report.blocks).toBe(4);
    },
  );

  it("of landmarks are those of the means", async () => {
    const source = new TinyCache({ layers: 1, tokens: 8 + 320 });
    const coded = await compress(runtime, source, { ...ENDS, anchorSpan: 1 });
    using cache = KvCache.open(runtime, coded, { budget: 32 });
    const report = cache.attend(0, someQueries(source.geometry), new Float32Array(128));
    expect(report.scannedKeyBytes).toBe(10 * 4 * 64 * 4);
    expect(report.scoredKeyBytes).toBe((2 * coded.layers[0].keys[0].planes.length) / 10);
  });
});

describe("on a real cache of 1,664 tokens", () => {
  /** Attention that the chosen tokens get, and part of the 64 best coded tokens: measured, less a twentieth. */
  const LIMITS: [Partial<CodecOptions>, CacheOptions["selection"], number, number, number][] = [
    [{ grouping: "layer", anchorSpan: 256 }, "blocks", 1 / 4, 0.79, 0.57],
    [{ grouping: "layer", anchorSpan: 256 }, "blocks", 1 / 2, 0.9, 0.85],
    [{ grouping: "head", anchorSpan: null }, "blocks", 1 / 4, 0.79, 0.56],
    [{ grouping: "layer", anchorSpan: 256 }, "tokens", 1 / 32, 0.78, 0.48],
    [{ grouping: "layer", anchorSpan: 256 }, "tokens", 1 / 8, 0.86, 0.93],
    [{ grouping: "head", anchorSpan: null }, "tokens", 1 / 8, 0.86, 0.91],
    [{ grouping: "head", anchorSpan: 1 }, "landmarks", 1 / 4, 0.68, 0.69],
    [{ grouping: "head", anchorSpan: 1 }, "landmarks", 1 / 2, 0.8, 0.84],
  ];
  it.each(LIMITS)(
    "%j by %s with a budget of %d finds the tokens that matter",
    async (codec, selection, budget, ...limits) => {
      const dump = await openFixture();
      const coded = await compress(runtime, dump, codec);
      using cache = KvCache.open(runtime, coded, { budget, selection });
      let [mass, recall, count] = [0, 0, 0];
      for (const layer of [0, 1]) {
        const rows = await rowsOf(dump, layer);
        for (let position = 1536; position < 1728; position += 24) {
          const queries = await queriesAt(dump, layer, position);
          const { weights } = naiveAttention(rows, coded.geometry, queries);
          const scores = cache.scores(layer, queries);
          for (let q = 0; q < 9; q++, count++) {
            const mine = weights.subarray(q * 1664, (q + 1) * 1664);
            const isIn = (token: number): boolean => scores[q * 1664 + token] > -Infinity;
            mine.forEach((weight, token) => {
              if (isIn(token)) mass += weight;
            });
            const least = nthGreatest(Float32Array.from(mine.subarray(4, 1600)), 64);
            const best = Array.from({ length: 1596 }, (_, i) => i + 4).filter(
              (token) => Math.fround(mine[token]) >= least,
            );
            recall += best.filter(isIn).length / best.length;
          }
        }
      }
      expect(mass / count).toBeGreaterThan(limits[0]);
      expect(recall / count).toBeGreaterThan(limits[1]);
    },
  );
});
