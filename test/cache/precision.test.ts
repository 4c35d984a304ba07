/** Lower precision for old tokens, bytes held to a budget, and bits chosen for a target of attention KL. */
import { beforeAll, describe, expect, it } from "vitest";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { type CodedCache, type CodedGroup, codedTokens } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { countWidths, PLANE_BYTES, planeCount } from "../../src/codec/layout.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import {
  appendRows,
  attended,
  differenceOf,
  grown,
  type LayerRows,
  naiveAttention,
  openFixture,
  queriesAt,
  restoredRows,
  rowsOf,
  someQueries,
} from "../support/live-cache.ts";
import { pairSpans } from "../support/pair-spans.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, TinyCache } from "../support/tiny-cache.ts";

const ENDS = { sinks: 2, recent: 6 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

/** The group without channels of up to `width` bits, where some have more: as many leading planes of each block. */
function withoutUpTo(group: CodedGroup, width: number, dim: number): CodedGroup {
  const books = group.books.filter((book) => book.width > width);
  if (books.length === 0) return group;
  const planesOf = (of: CodedGroup["books"]): number => planeCount(countWidths(of.map((book) => book.width)));
  const [all, kept] = [planesOf(group.books) * PLANE_BYTES, planesOf(books) * PLANE_BYTES];
  const planes = new Uint8Array((group.planes.length / all) * kept);
  for (let block = 0; block * kept < planes.length; block++) {
    planes.set(group.planes.subarray(block * all, block * all + kept), block * kept);
  }
  const { widths, scales, codes, ...rest } = group.basis;
  const count = books.length;
  const basis = {
    ...rest,
    widths: widths.slice(0, count),
    scales: scales.slice(0, count),
    codes: codes.slice(0, count * dim),
  };
  return { ...group, books, basis, planes };
}

/** Every group without channels of up to `width` bits. */
function narrowed(coded: CodedCache, width: number): CodedCache {
  const { headDim } = coded.geometry;
  const narrow = (groups: CodedGroup[]) => groups.map((group) => withoutUpTo(group, width, group.headCount * headDim));
  const layers = coded.layers.map((layer) => ({ ...layer, keys: narrow(layer.keys), values: narrow(layer.values) }));
  return { ...coded, layers };
}

/** `rows` whose coded tokens up to number `end` are those of `low`. */
function mixedRows(rows: LayerRows, low: LayerRows, { geometry, sinks }: CodedCache, end: number): LayerRows {
  const mixed = { ...rows, keys: rows.keys.slice(), values: rows.values.slice() };
  for (let h = 0; h < geometry.kvHeads; h++) {
    const [from, to] = [0, end].map((token) => (h * rows.tokens + sinks + token) * geometry.headDim);
    for (const name of ["keys", "values"] as const) mixed[name].set(low[name].subarray(from, to), from);
  }
  return mixed;
}

describe("shrink", () => {
  it.each([
    ["layer", 32, 6000],
    ["head", null, 8000],
    ["head", 128, 5000],
    ["layer", 1, 5000],
    ["layer", pairSpans(32), 5000],
  ] as const)(
    "drops trailing planes of older tokens: as restored without those channels, grouping %s, span %j",
    async (grouping, anchorSpan, tokens) => {
      const source = new TinyCache({ layers: 1, tokens, headDim: 64, noise: 0.3 });
      const coded = await compress(runtime, source, { ...ENDS, grouping, anchorSpan, keyBits: 3, valueBits: 3 });
      using cache = KvCache.open(runtime, coded, { mixTolerance: 0, scoreStep: 1e-4 });
      const held = cache.stats().bytes.total;
      const now = cache.shrink(held - 1);
      expect(now).toBeLessThan(held);
      expect(cache.stats().bytes.total).toBe(now);
      expect(cache.length).toBe(tokens);
      // Half of it, or three quarters where slabs of memory end so that half frees too little.
      const whole = Math.floor(codedTokens(coded) / 32);
      const span = typeof anchorSpan === "object" && anchorSpan ? 256 : Math.max(32, anchorSpan ?? 1);
      const ends = [1 / 2, 3 / 4].map((part) => span * Math.ceil((32 * Math.ceil(part * whole)) / span));
      const queries = someQueries(source.geometry, 1, 1, 1);
      const got = attended(cache, 0, queries);
      const full = restoredRows(runtime, coded);
      const differenceFrom = (rows: LayerRows): number =>
        differenceOf(got, naiveAttention(rows, source.geometry, queries).out);
      // Which width it is depends on what pays.
      const differences = [1, 2, 4].flatMap((width) => {
        const low = restoredRows(runtime, narrowed(coded, width));
        return ends.map((end) => differenceFrom(mixedRows(full, low, coded, end)));
      });
      expect(Math.min(...differences)).toBeLessThan(1e-3);
      expect(differenceFrom(full)).toBeGreaterThan(3e-3);
      // What comes now is coded as before, behind what was lowered.
      appendRows(cache, 0, await rowsOf(source), 0, 300);
      expect(cache.length).toBe(tokens + 300);
      cache.truncate(tokens);
      cache.truncate(700);
      expect(attended(cache, 0, someQueries(source.geometry)).every(Number.isFinite)).toBe(true);
    },
  );

  it("goes on a step at a time; bytes fall, the error rises smoothly, exact tokens stay", async () => {
    const dump = await openFixture();
    const coded = await compress(runtime, dump, { grouping: "layer", anchorSpan: 32, keyBits: 3, valueBits: 3 });
    using cache = KvCache.open(runtime, coded);
    // Long enough that planes outweigh the models that lower precision takes.
    const rows = await Promise.all([0, 1].map((layer) => rowsOf(dump, layer)));
    for (let i = 0; i < 4; i++) for (const layer of [0, 1]) appendRows(cache, layer, rows[layer], 0, 1664);
    const queries = await queriesAt(dump, 0, 1700);
    const exactScores = (): number[] => {
      const scores = cache.scores(0, queries);
      const { length } = cache;
      const ends = Array.from({ length: 9 }, (_, q) => [q * length, (q + 1) * length] as const);
      return ends.flatMap(([from, to]) => [...scores.slice(from, from + 4), ...scores.slice(to - 64, to)]);
    };
    const full = attended(cache, 0, queries);
    const exact = exactScores();
    const errors: number[] = [];
    let held = cache.stats().bytes.total;
    for (;;) {
      const now = cache.shrink(held - 1);
      if (now >= held) break;
      expect(now).toBe(cache.stats().bytes.total);
      held = now;
      errors.push(differenceOf(attended(cache, 0, queries), full));
      expect(exactScores()).toEqual(exact);
    }
    expect(errors.length).toBeGreaterThan(4);
    const last = errors[errors.length - 1];
    expect(last).toBeLessThan(0.9);
    expect(errors[0]).toBeLessThan(0.5 * last);
    errors.forEach((error, i) => {
      if (i > 0) expect(error).toBeGreaterThan(0.8 * errors[i - 1]);
      if (i > 0) expect(error - errors[i - 1]).toBeLessThan(0.35);
    });
    expect(cache.shrink(1)).toBe(held);
  });

  it("leaves a fork as it is, and does nothing where what a fork shares would stay anyway", async () => {
    const source = new TinyCache({ layers: 1, tokens: 12000, noise: 0.3 });
    const coded = await compress(runtime, source, { ...ENDS, anchorSpan: 32, keyBits: 3 });
    using cache = KvCache.open(runtime, coded);
    const queries = someQueries(source.geometry);
    const out = attended(cache, 0, queries);
    const copy = cache.fork();
    const held = runtime.heap.bytesInUse;
    cache.shrink(1);
    expect(runtime.heap.bytesInUse).toBeLessThanOrEqual(held);
    expect(attended(copy, 0, queries)).toEqual(out);
    copy.dispose();
    cache.shrink(1);
    expect(runtime.heap.bytesInUse).toBeLessThan(0.9 * cache.stats().bytes.exact + held);
    expect(attended(cache, 0, queries)).not.toEqual(out);
  });
});

describe("targetBytes", () => {
  it("is kept by a cache that grows, as long as there is something to lower", async () => {
    const source = new TinyCache({ layers: 2, tokens: 600, noise: 0.3 });
    const options = { ...ENDS, fitTokens: 256, anchorSpan: 32, keyBits: 3, valueBits: 3, driftLimit: null };
    const feed = async (cache: KvCache): Promise<number> => {
      let most = 0;
      for (let i = 0; i < 12; i++) {
        for (const layer of [0, 1]) appendRows(cache, layer, await rowsOf(source, layer), 0, 600);
        cache.settle();
        if (i > 1) most = Math.max(most, cache.stats().bytes.total);
      }
      return most;
    };
    const make = (given: object): KvCache =>
      KvCache.create(runtime, source.geometry, source.rotary, { ...options, ...given });
    using free = make({});
    const most = await feed(free);
    const targetBytes = Math.floor(0.85 * most);
    using cache = make({ targetBytes });
    expect(await feed(cache)).toBeLessThanOrEqual(targetBytes);
    expect(cache.length).toBe(7200);
    expect(attended(cache, 0, someQueries(source.geometry)).every(Number.isFinite)).toBe(true);
  });
});

describe("targetKl", () => {
  it.each(["layer", "head"] as const)(
    "takes fewer bits for a looser target, which is met within a factor of three: %s",
    async (grouping) => {
      const dump = await openFixture();
      let before = Infinity;
      for (const targetKl of [0.01, 0.03, 0.1]) {
        const options = { targetKl, grouping, driftLimit: null, monitorEvery: 0 };
        using cache = KvCache.create(runtime, dump.geometry, dump.rotary, options);
        for (const layer of [0, 1]) {
          const rows = await rowsOf(dump, layer);
          const query = (await dump.query(layer))!;
          cache.noteQueries(layer, elementsOf(query), query.queryHeads, query.firstToken);
          appendRows(cache, layer, rows, 0, dump.tokenCount);
          cache.settle();
          // Queries that the fit has not seen.
          let divergence = 0;
          for (let position = 1664; position < 1728; position += 16) {
            const queries = await queriesAt(dump, layer, position);
            const { weights } = naiveAttention(rows, dump.geometry, queries);
            divergence += divergenceOf(weights, cache.scores(layer, queries), dump.tokenCount) / 4;
          }
          expect(divergence / targetKl, `layer ${layer}, ${targetKl}`).toBeGreaterThan(1 / 3);
          expect(divergence / targetKl, `layer ${layer}, ${targetKl}`).toBeLessThan(3);
        }
        const bits = cache
          .save()
          .layers.map(({ keys }) =>
            keys.reduce((sum, { books }) => sum + books.reduce((a, { width }) => a + width, 0), 0),
          );
        const most = Math.max(...bits);
        expect(most).toBeLessThan(before);
        before = Math.min(...bits);
      }
    },
  );

  it("without queries, or null, leaves keyBits as they are", async () => {
    const source = new TinyCache({ layers: 1, tokens: 200, noise: 0.3 });
    const options = { ...ENDS, fitTokens: 128, anchorSpan: 32 };
    using plain = await grown(runtime, source, options);
    using blind = await grown(runtime, source, { ...options, targetKl: 0.001 });
    expect(blind.save()).toStrictEqual(plain.save());
  });
});

/** Mean over queries of KL(weights || softmax of scores), in nats. */
function divergenceOf(weights: Float64Array, scores: Float32Array, tokens: number): number {
  let sum = 0;
  for (let from = 0; from < weights.length; from += tokens) {
    const mine = scores.subarray(from, from + tokens);
    const top = mine.reduce((a, x) => Math.max(a, x));
    const total = top + Math.log(mine.reduce((a, x) => a + Math.exp(x - top), 0));
    mine.forEach((score, i) => {
      const weight = weights[from + i];
      if (weight > 1e-12) sum += weight * (Math.log(weight) - score + total);
    });
  }
  return (sum * tokens) / weights.length;
}
