/** What goes into a live cache wrong: refused with a message that names it, nothing changed. */
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { KvCache, type RowLayout } from "../../src/cache/kv-cache.ts";
import { type CacheOptions, checkCacheOptions } from "../../src/cache/options.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { DisposedError, MismatchError, UnsupportedError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { failureOf } from "../support/failure.ts";
import { appendRows, attended, type LayerRows, rowsOf, someQueries } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";

let runtime: Runtime;
let source: TinyCache;
let rows: LayerRows;
let coded: CodedCache;
let cache: KvCache;
let whole: string;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
  source = new TinyCache({ tokens: 100 });
  rows = await rowsOf(source);
  coded = await compress(runtime, source, { sinks: 2, recent: 6, anchorSpan: 32 });
});

const archived = (one: KvCache): string => Buffer.from(joinChunks(encodeArchive(one.save()))).toString("hex");

beforeEach(() => {
  cache = KvCache.open(runtime, coded);
  whole = archived(cache);
  return () => {
    expect(archived(cache) === whole, "nothing changed").toBe(true);
    cache.dispose();
    expect(runtime.heap.bytesInUse).toBe(0);
  };
});

const full = (count: number, x = 1): Float32Array => new Float32Array(count).fill(x);
const spoilt = (count: number, ...bad: number[]): Float32Array => {
  const values = full(count);
  values.set(bad, 1);
  return values;
};

describe("append", () => {
  it.each<[string, Partial<RowLayout>, Float32Array, Float32Array, string]>([
    ["keys too short", { tokens: 2 }, full(127), full(128), "layer 1 keys: expected at least 128 elements, got 127"],
    ["values too short", { tokens: 2 }, full(128), full(64), "layer 1 values: expected at least 128 elements, got 64"],
    ["keys too short for the strides", { tokens: 3, headStride: 500, tokenStride: 40 }, full(611), full(612), "layer 1 keys: expected at least 612 elements, got 611"],
    ["another type", { tokens: 1 }, new Float64Array(64) as never, full(64), "layer 1 keys: expected a Float32Array, got Float64Array"],
    ["nothing", { tokens: 1 }, undefined as never, full(64), "layer 1 keys: expected a Float32Array, got Undefined"],
    ["a head stride too small", { tokens: 1, headStride: 31 }, full(64), full(64), "layout.headStride: expected an integer from 32 to 1073741824, got 31"],
    ["a token stride that is none", { tokens: 1, tokenStride: 64.5 }, full(64), full(64), "layout.tokenStride: expected an integer from 32 to 1073741824, got 64.5"],
    ["a negative number of tokens", { tokens: -1 }, full(64), full(64), "layout.tokens: expected an integer from 0 to 16777216, got -1"],
    ["NaN keys", { tokens: 1 }, spoilt(64, Number.NaN, Infinity), full(64), "layer 1 keys: expected finite elements, got 2 of NaN or infinity"],
    ["infinite values", { tokens: 1, beforeRotary: true }, full(64), spoilt(64, -Infinity), "layer 1 values: expected finite elements, got 1 of NaN or infinity"],
    ["keys that f16 cannot hold", { tokens: 1 }, spoilt(64, 65519, 65520, -1e30), full(64), "layer 1 keys: expected elements that f16 can hold, got 2 too large"],
  ])("of %s", async (_, layout, keys, values, message) => {
    const error = await failureOf(() => cache.append(1, keys, values, layout as RowLayout));
    expect(error).toStrictEqual(/Float32Array/.test(message) ? new TypeError(message) : new RangeError(message));
  }); // biome-ignore format: a line a mistake

  it("with a layout that has a field unknown, or none", async () => {
    const misspelt = { tokens: 1, headstride: 64 } as RowLayout;
    const error = await failureOf(() => cache.append(1, full(64), full(64), misspelt));
    expect(error).toStrictEqual(
      new TypeError('layout: expected fields among tokens, headStride, tokenStride, beforeRotary, got "headstride"'),
    );
    const none = await failureOf(() => cache.append(1, full(64), full(64), undefined as never));
    expect(none).toStrictEqual(new TypeError("layout: expected an object, got undefined"));
  });

  it("to a layer that is not there, and of no tokens, which is nothing", async () => {
    const error = await failureOf(() => cache.append(2, full(64), full(64), { tokens: 1 }));
    expect(error).toStrictEqual(new RangeError("layer: expected an integer from 0 to 1, got 2"));
    cache.append(0, full(0), full(0), { tokens: 0 });
  });
});

describe("attend", () => {
  it.each<[string, number, Float32Array, Float32Array, number | undefined, string]>([
    ["queries of no head", 0, full(0), full(0), undefined, "queries: expected a multiple of 2 x 32 elements, got 0"],
    ["a part of a head", 0, full(96), full(96), undefined, "queries: expected a multiple of 2 x 32 elements, got 96"],
    ["another output", 0, full(64), full(128), undefined, "out: expected 64 elements as queries has, got 128"],
    ["NaN queries", 0, spoilt(64, Number.NaN), full(64), undefined, "queries: expected finite elements, got 1 of NaN or infinity"],
    ["a position that goes back", 0, full(64), full(64), 98, "position: expected an integer from 99 to 2147483647, got 98"],
    ["a layer that is not there", -1, full(64), full(64), undefined, "layer: expected an integer from 0 to 1, got -1"],
  ])("with %s", async (_, layer, queries, out, position, message) => {
    const error = await failureOf(() => cache.attend(layer, queries, out, position));
    expect(error).toStrictEqual(new RangeError(message));
    expect(out.every((x) => x === 1)).toBe(true);
    expect(cache.stats().attended.calls).toBe(0);
  }); // biome-ignore format: a line a mistake

  it("with arrays of another type", async () => {
    const doubles = new Float64Array(64) as never;
    expect(await failureOf(() => cache.attend(0, doubles, full(64)))).toStrictEqual(
      new TypeError("queries: expected a Float32Array, got Float64Array"),
    );
    expect(await failureOf(() => cache.attend(0, full(64), doubles))).toStrictEqual(
      new TypeError("out: expected a Float32Array, got Float64Array"),
    );
  });

  it("to nothing, also after everything was forgotten", async () => {
    using empty = KvCache.create(runtime, source.geometry, source.rotary);
    using forgotten = cache.fork();
    forgotten.truncate(0);
    for (const one of [empty, forgotten]) {
      const error = await failureOf(() => one.attend(0, full(64), full(64)));
      expect(error).toStrictEqual(new RangeError("layer 0: expected at least 1 token to attend to, got none"));
    }
  });

  it("takes positions from that of the last token on", () => {
    const queries = someQueries(source.geometry);
    const out = attended(cache, 0, queries);
    for (const position of [99, 100, 5000]) {
      const again = new Float32Array(queries.length);
      cache.attend(0, queries, again, position);
      expect(again).toEqual(out);
    }
  });
});

describe("other calls", () => {
  it.each<[string, (one: KvCache) => unknown, string]>([
    ["truncate beyond length", (one) => one.truncate(101), "length: expected an integer from 0 to 100, got 101"],
    ["truncate to less than nothing", (one) => one.truncate(-1), "length: expected an integer from 0 to 100, got -1"],
    ["queries of too few heads", (one) => one.noteQueries(0, full(32), 1, 0), "queryHeads: expected an integer from 2 to 1024, got 1"],
    ["queries of heads that kv heads do not share", (one) => one.noteQueries(0, full(96), 3, 0), "queryHeads: expected a multiple of 2, got 3"],
    ["queries of a part of a token", (one) => one.noteQueries(0, full(100), 2, 0), "queries: expected a multiple of 2 x 32 elements, got 100"],
    ["NaN queries", (one) => one.noteQueries(0, spoilt(64, Number.NaN), 2, 0), "queries: expected finite elements, got 1 of NaN or infinity"],
    ["queries before the first token", (one) => one.noteQueries(0, full(64), 2, -1), "firstToken: expected an integer from 0 to 2147483647, got -1"],
    ["scores into too little", (one) => one.scores(0, full(64), full(199)), "out: expected 200 elements, got 199"],
  ])("%s", async (_, call, message) => {
    expect(await failureOf(() => call(cache))).toStrictEqual(new RangeError(message));
  }); // biome-ignore format: a line a mistake

  it("save of layers that do not hold the same tokens, or no codes", async () => {
    using uneven = cache.fork();
    appendRows(uneven, 1, rows, 0, 1);
    expect(await failureOf(() => uneven.save())).toStrictEqual(
      new RangeError("layer 1: expected 100 tokens as layer 0 has, got 101"),
    );
    using early = KvCache.create(runtime, source.geometry, source.rotary);
    expect(await failureOf(() => early.save())).toStrictEqual(
      new UnsupportedError("layer 0: expected coded tokens to save, got none (no basis was fitted yet)"),
    );
  });

  it.each<[string, (one: KvCache) => unknown]>([
    ["append", (one) => one.append(0, full(64), full(64), { tokens: 1 })],
    ["attend", (one) => one.attend(0, full(64), full(64))],
    ["scores", (one) => one.scores(0, full(64))],
    ["fork", (one) => one.fork()],
    ["truncate", (one) => one.truncate(0)],
    ["save", (one) => one.save()],
    ["stats", (one) => one.stats()],
    ["shrink", (one) => one.shrink(1)],
    ["settle", (one) => one.settle()],
    ["noteQueries", (one) => one.noteQueries(0, full(64), 2, 0)],
  ])("%s of a disposed cache", async (_, call) => {
    const gone = cache.fork();
    gone.dispose();
    const error = await failureOf(() => call(gone));
    expect(error).toBeInstanceOf(DisposedError);
    expect(error.message).toBe("cache: expected one in use, got one disposed before");
  });
});

describe("an archive", () => {
  it.each<[string, Partial<CacheOptions>, string]>([
    ["of another span", { anchorSpan: 64 }, "anchorSpan: expected 32 as the archive has, got 64"],
    ["after RoPE, of one that is not", { anchorSpan: null }, "anchorSpan: expected 32 as the archive has, got null"],
    ["of another grouping", { grouping: "head" }, "grouping: expected layer as the archive has, got head"],
    ["of another type", { exactType: "f32" }, "exactType: expected f16 as the archive has, got f32"],
    ["of other sinks", { sinks: 4 }, "sinks: expected 2 as the archive has, got 4"],
  ])("asked to be %s", async (_, options, message) => {
    const error = await failureOf(() => KvCache.open(runtime, coded, options));
    expect(error).toStrictEqual(new MismatchError(message));
  });

  it("whose keys and values are grouped otherwise", async () => {
    const heads = await compress(runtime, source, { sinks: 2, recent: 6, anchorSpan: 32, grouping: "head" });
    const layers = coded.layers.map((layer, i) => ({ ...layer, values: heads.layers[i].values }));
    const error = await failureOf(() => KvCache.open(runtime, { ...coded, layers }));
    expect(error).toStrictEqual(
      new UnsupportedError("layer 0: expected value groups of 2 heads as keys have, got 1 + 1"),
    );
  });

  it("of a geometry or rotary that is none", async () => {
    const geometry = { ...coded.geometry, headDim: 30 };
    expect((await failureOf(() => KvCache.open(runtime, { ...coded, geometry }))).message).toMatch(/^geometry.headDim/);
    const rotary = { ...coded.rotary, frequencies: new Float64Array(17) };
    expect((await failureOf(() => KvCache.open(runtime, { ...coded, rotary }))).message).toMatch(/^rotary.freq/);
  });
});

describe("options", () => {
  it.each<[Partial<CacheOptions>, string]>([
    [{ fitTokens: 63 }, "fitTokens: expected an integer from 64 to 1048576, got 63"],
    [{ scoreStep: 0 }, "scoreStep: expected a number from 0.000001 to 1, got 0"],
    [{ mixTolerance: 1.5 }, "mixTolerance: expected a number from 0 to 1, got 1.5"],
    [{ budget: 0 }, "budget: expected a number from 5e-324 to 2147483648, got 0"],
    [{ selection: "best" as never }, 'selection: expected "tokens", "blocks", "landmarks", got best'],
    [{ driftLimit: 0.5 }, "driftLimit: expected a number from 1 to 1000000, got 0.5"],
    [{ monitorEvery: -1 }, "monitorEvery: expected an integer from 0 to 1048576, got -1"],
    [{ monitorLimit: Number.NaN }, "monitorLimit: expected a number from 0 to 1000000, got NaN"],
    [{ targetKl: 0 }, "targetKl: expected a number from 0.000001 to 10, got 0"],
    [{ targetBytes: 0 }, "targetBytes: expected a number from 1 to 9007199254740992, got 0"],
    [{ exactType: "f64" as never }, 'exactType: expected "f32", "f16" or "bf16", got f64'],
    [{ anchorSpan: 48 }, "anchorSpan: expected a power of two from 1 to 16777216 or null, got 48"],
    [{ keyBits: 9 }, "keyBits: expected a number from 0.01 to 8, got 9"],
  ])("%j", async (options, message) => {
    expect(await failureOf(() => checkCacheOptions(options))).toStrictEqual(new RangeError(message));
  });

  it("an onEvent that cannot be called", async () => {
    expect(await failureOf(() => checkCacheOptions({ onEvent: "log" as never }))).toStrictEqual(
      new TypeError("onEvent: expected a function or null, got string"),
    );
  });
});
