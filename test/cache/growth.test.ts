/** Tokens that come in: the same codes however they come, on the frozen basis, on every platform. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { KvCache } from "../../src/cache/kv-cache.ts";
import type { CacheOptions } from "../../src/cache/options.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { type CodedCache, codedTokens } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import {
  appendRows,
  attended,
  codeDifference,
  differenceOf,
  grown,
  naiveAttention,
  restoredRows,
  rowsOf,
  someQueries,
} from "../support/live-cache.ts";
import { pairSpans } from "../support/pair-spans.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, TinyCache, type TinyCacheOptions, tensorOf, turn } from "../support/tiny-cache.ts";

const ENDS = { sinks: 2, recent: 6 };
const EXACT = { mixTolerance: 0, scoreStep: 1e-4, driftLimit: null };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

const archived = (coded: CodedCache): string => Buffer.from(joinChunks(encodeArchive(coded))).toString("hex");

/** The first `tokens` tokens of a source, compressed, and all its rows. */
async function begun(tokens: number, shape: TinyCacheOptions = {}, options: Partial<CodecOptions> = {}) {
  const source = new TinyCache({ layers: 1, noise: 0.3, ids: false, tokens: 200, ...shape });
  const few = new TinyCache({ layers: 1, noise: 0.3, ids: false, ...shape, tokens });
  const rows = await rowsOf(source);
  // The source made for fewer tokens is another one: take the first rows of the long one.
  const { headDim, kvHeads } = source.geometry;
  for (const [name, values] of [["key", rows.keys] as const, ["value", rows.values] as const]) {
    const cut = new Float32Array(kvHeads * tokens * headDim);
    for (let h = 0; h < kvHeads; h++) {
      cut.set(values.subarray(h * rows.tokens * headDim, (h * rows.tokens + tokens) * headDim), h * tokens * headDim);
    }
    few.layers[0][name] = tensorOf(few.layers[0][name].type, cut);
  }
  return { source, rows, coded: await compress(runtime, few, { ...ENDS, anchorSpan: 32, ...options }) };
}

describe("however they come, once there is a basis", () => {
  it.each<[string, Partial<CodecOptions>]>([
    ["of a layer", {}],
    ["of heads", { grouping: "head", anchorSpan: null }],
    ["before RoPE", { anchorSpan: 1 }],
    ["of a span a pair", { anchorSpan: pairSpans(16) }],
  ])("tokens %s get the same codes", async (_, options) => {
    const { rows, coded } = await begun(60, {}, options);
    const saved = (cuts: number[]): string => {
      using cache = KvCache.open(runtime, coded, { driftLimit: null });
      const ends = [...cuts, rows.tokens].toSorted((a, b) => a - b);
      for (const end of ends) appendRows(cache, 0, rows, cache.length, end);
      return archived(cache.save());
    };
    const all = saved([]);
    const single = saved(Array.from({ length: rows.tokens - 60 }, (_, i) => 60 + i));
    expect(single).toBe(all);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 60, max: rows.tokens }), { maxLength: 8 }), (cuts) => saved(cuts) === all),
      { numRuns: 15 },
    );
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("tokens lie head by head, or side by side, or with gaps", async () => {
    const { rows, coded } = await begun(60);
    const [heads, headDim] = [2, 32];
    const laid = (values: Float32Array, headStride: number, tokenStride: number): Float32Array => {
      const out = new Float32Array(rows.tokens * tokenStride + heads * headStride).fill(Number.NaN);
      for (let h = 0; h < heads; h++) {
        for (let t = 0; t < rows.tokens; t++) {
          const from = (h * rows.tokens + t) * headDim;
          out.set(values.subarray(from, from + headDim), h * headStride + t * tokenStride);
        }
      }
      return out;
    };
    const saved = [undefined, [32, 64], [40, 100], [32 * 500, 32]].map((strides) => {
      using cache = KvCache.open(runtime, coded, { driftLimit: null });
      if (!strides) {
        appendRows(cache, 0, rows, 60, 200);
        return archived(cache.save());
      }
      const [headStride, tokenStride] = strides;
      const [keys, values] = [rows.keys, rows.values].map((x) =>
        laid(x, headStride, tokenStride).subarray(60 * tokenStride),
      );
      // Side by side is what goes without saying.
      cache.append(
        0,
        keys,
        values,
        strides[0] === 32 && strides[1] === 64 ? { tokens: 140 } : { tokens: 140, headStride, tokenStride },
      );
      return archived(cache.save());
    });
    expect(new Set(saved).size).toBe(1);
  });

  it.each<[string, TinyCacheOptions]>([
    ["half-split", {}],
    ["interleaved", { layout: "interleaved" }],
    ["partial", { pairs: 6 }],
  ])("keys before RoPE are rotated by their positions: %s", async (_, shape) => {
    const { source, rows, coded } = await begun(60, { type: "f32", ...shape });
    const plain = { ...rows, keys: rows.keys.slice() };
    for (let row = 0; row < 2 * rows.tokens; row++) turn(plain.keys, row * 32, -(row % rows.tokens), source.rotary);
    using cache = KvCache.open(runtime, coded, { driftLimit: null, recent: 1000 });
    const layout = { tokens: 140, headStride: 200 * 32, tokenStride: 32, beforeRotary: true };
    cache.append(0, plain.keys.subarray(60 * 32), plain.values.subarray(60 * 32), layout);
    const got = restoredRows(runtime, cache.save());
    for (let h = 0; h < 2; h++) {
      const place = [(h * 200 + 60) * 32, (h + 1) * 200 * 32] as const;
      expect(differenceOf(got.keys.subarray(...place), rows.keys.subarray(...place))).toBeLessThan(1e-5);
      expect(got.values.subarray(...place)).toEqual(rows.values.subarray(...place));
    }
  });
});

describe("exact tokens", () => {
  it.each(["f32", "f16", "bf16"] as const)("are rounded to %s, nearest even, when they come in", async (exactType) => {
    const { rows, coded } = await begun(60, { type: exactType });
    // Halfway between two numbers of each type, and one that f16 holds as a subnormal only.
    const odd = [1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 2 ** -20, -1 - 2 ** -30];
    const even = {
      f32: odd.map(Math.fround),
      f16: [1, 1 + 2 ** -9, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 2 ** -20, -1],
      bf16: [1, 1, 1, 1 + 2 ** -6, 2 ** -20, -1],
    }[exactType];
    rows.keys.set(odd, 100 * 32);
    rows.values.set(odd, 101 * 32);
    using cache = KvCache.open(runtime, coded, { recent: 1000 });
    appendRows(cache, 0, rows, 60, 200);
    const got = restoredRows(runtime, cache.save());
    expect(Array.from(got.keys.subarray(100 * 32, 100 * 32 + 6))).toEqual(even);
    expect(Array.from(got.values.subarray(101 * 32, 101 * 32 + 6))).toEqual(even);
  });
});

describe("growth after open", () => {
  it("codes on the frozen basis: what was coded stays, and the error is that of the codec", async () => {
    const { source, rows, coded } = await begun(136);
    using cache = KvCache.open(runtime, coded, EXACT);
    appendRows(cache, 0, rows, 136, 200);
    const saved = cache.save();
    expect(codedTokens(saved)).toBe(192);
    for (const role of ["keys", "values"] as const) {
      const [{ planes, norms, ...shape }] = saved.layers[0][role];
      const [before] = coded.layers[0][role];
      expect(shape).toEqual({ ...before, planes: undefined, norms: undefined });
      expect(planes.subarray(0, before.planes.length)).toEqual(before.planes);
      expect(norms?.codes.subarray(0, 128)).toEqual(before.norms?.codes);
    }
    const whole = await compress(runtime, source, { ...ENDS, anchorSpan: 32 });
    const [grownError, wholeError] = [saved, whole].map((one) => {
      const got = restoredRows(runtime, one);
      return differenceOf(got.keys, rows.keys) + differenceOf(got.values, rows.values);
    });
    expect(grownError).toBeLessThan(1.3 * wholeError);
    expect(codeDifference(runtime, cache, 0, someQueries(source.geometry))).toBeLessThan(1e-3);
  });

  it.each([1, 30, 32, 33, 70])("fills the last block first where %i tokens were coded", async (count) => {
    const { source, rows, coded } = await begun(count + 8);
    using cache = KvCache.open(runtime, coded, EXACT);
    for (let end = count + 9; end < count + 80; end++) {
      appendRows(cache, 0, rows, end - 1, end);
      // A block is coded as soon as `recent` has overflowed by what fills it.
      const over = end - 2 - 6 - count;
      const room = 32 - (count % 32);
      const added = over < room ? 0 : room + 32 * Math.floor((over - room) / 32);
      expect(cache.stats().codedTokens).toBe(count + added);
      if (end % 9 === 0) expect(codeDifference(runtime, cache, 0, someQueries(source.geometry))).toBeLessThan(1e-3);
    }
  });
});

describe("an archive", () => {
  it.each<[string, TinyCacheOptions, Partial<CodecOptions>]>([
    ["of layers", {}, {}],
    ["of heads with a metric", { queries: 8 }, { grouping: "head", anchorSpan: null }],
    ["of the paper's mode", { type: "f32" }, { schedule: [8, 4, 2, 1, 0, 0, 0, 0], anchorSpan: 1 }],
    ["of bf16, nothing kept exact", { type: "bf16", tokens: 77 }, { sinks: 0, recent: 0 }],
  ])("%s opens and saves to the same bytes", async (_, shape, options) => {
    const coded = await compress(runtime, new TinyCache(shape), { ...ENDS, ...options });
    using cache = KvCache.open(runtime, coded);
    expect(cache.length).toBe(coded.tokenCount);
    expect(archived(cache.save())).toBe(archived(coded));
    using copy = cache.fork();
    expect(archived(copy.save())).toBe(archived(coded));
  });

  it("keeps ids of tokens as long as they are those of the cache", async () => {
    const source = new TinyCache({ layers: 1 });
    const coded = await compress(runtime, source, ENDS);
    using cache = KvCache.open(runtime, coded);
    cache.truncate(90);
    expect(cache.save().tokens).toEqual(coded.tokens?.subarray(0, 90));
    appendRows(cache, 0, await rowsOf(source), 90, 91);
    expect(cache.save().tokens).toBeUndefined();
  });

  it("after growth is the same from twins, debug and release module", async () => {
    const source = new TinyCache({ layers: 2, tokens: 170, noise: 0.3, queries: 8 });
    const options: Partial<CacheOptions> = { ...ENDS, fitTokens: 64, anchorSpan: 32 };
    const all = [];
    for (const { create } of PLATFORMS) {
      const on = await create({ poison: true });
      using cache = KvCache.create(on, source.geometry, source.rotary, options);
      for (let layer = 0; layer < 2; layer++) {
        const rows = await rowsOf(source, layer);
        appendRows(cache, layer, rows, 0, 100);
        cache.noteQueries(layer, elementsOf(source.layers[layer].query!), 4, 162);
      }
      cache.settle();
      for (let layer = 0; layer < 2; layer++) appendRows(cache, layer, await rowsOf(source, layer), 100, 170);
      const out = attended(cache, 1, someQueries(source.geometry));
      all.push(archived(cache.save()) + Buffer.from(out.buffer).toString("hex"));
    }
    expect(all[1]).toBe(all[0]);
    expect(all[2]).toBe(all[0]);
  });
});

describe("truncate", () => {
  it.each<[string, Partial<CodecOptions>]>([
    ["of a layer", {}],
    ["of heads before RoPE", { grouping: "head", anchorSpan: 1 }],
    ["of heads, a span a pair", { grouping: "head", anchorSpan: pairSpans(16) }],
  ])("to every length, then growth, gives back the codes %s", async (_, options) => {
    const { source, rows, coded: first } = await begun(104, {}, options);
    // New tokens are projected by the analysis as it is held, in f16: all must have come in that way.
    using made = KvCache.open(runtime, first, EXACT);
    made.truncate(0);
    appendRows(made, 0, rows, 0, 104);
    const coded = made.save();
    const whole = archived(coded);
    const queries = someQueries(source.geometry);
    for (let length = 104; length >= 0; length--) {
      using cache = KvCache.open(runtime, coded, EXACT);
      cache.truncate(length);
      expect(cache.length).toBe(length);
      if (length > 0) {
        const saved = cache.save();
        expect(() => archived(saved)).not.toThrow();
        const { out } = naiveAttention(restoredRows(runtime, saved), source.geometry, queries);
        expect(differenceOf(attended(cache, 0, queries), out), `${length} tokens`).toBeLessThan(1e-3);
      }
      appendRows(cache, 0, rows, length, 104);
      expect(archived(cache.save()) === whole, `${length} tokens`).toBe(true);
    }
  });
});

it("grows on memory that grows at every turn, to the same bytes", async () => {
  const source = new TinyCache({ layers: 2, tokens: 170, noise: 0.3 });
  const options = { ...ENDS, fitTokens: 64, anchorSpan: pairSpans(16) };
  const saved = [];
  for (const on of [runtime, await PLATFORMS[2].create()]) {
    using cache = await grown(on, source, options);
    cache.truncate(130);
    using copy = cache.fork();
    for (const one of [cache, copy]) {
      for (let layer = 0; layer < 2; layer++) appendRows(one, layer, await rowsOf(source, layer), 130, 170);
      expect(codeDifference(on, one, 1, someQueries(source.geometry))).toBeLessThan(2e-3);
      saved.push(archived(one.save()));
    }
  }
  expect(new Set(saved).size).toBe(1);
});
