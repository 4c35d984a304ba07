/** Profiles: bases calibrated on other caches, as a file; caches that start empty on them; caches one after the other. */
import { beforeAll, describe, expect, it } from "vitest";
import { decodeArchive, readArchive } from "../../src/archive/reader.ts";
import { encodeArchive, writeArchive } from "../../src/archive/writer.ts";
import { concatenated } from "../../src/cache/concatenate.ts";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { createProfile } from "../../src/cache/profile.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { compress } from "../../src/codec/compress.ts";
import { fromHalf } from "../../src/codec/half.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import { frequenciesOf } from "../../src/codec/rotary.ts";
import { MismatchError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { testDirectory } from "../support/directory.ts";
import { failureOf } from "../support/failure.ts";
import {
  appendRows,
  attended,
  codeDifference,
  differenceOf,
  naiveAttention,
  openFixture,
  queriesAt,
  rowsOf,
  someQueries,
} from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, TinyCache, type TinyCacheOptions, tensorOf, turn } from "../support/tiny-cache.ts";

const ENDS = { sinks: 2, recent: 6 };

const directory = testDirectory();
let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

/** The first `count` tokens of a source, and the rest as a cache that begins at position 0. */
function split(source: TinyCache, shape: TinyCacheOptions, count: number): [TinyCache, TinyCache] {
  const { kvHeads, headDim } = source.geometry;
  return [
    [0, count],
    [count, source.tokenCount],
  ].map(([from, to]) => {
    const part = new TinyCache({ ...shape, tokens: to - from });
    part.layers.forEach((layer, i) => {
      for (const name of ["key", "value"] as const) {
        const all = elementsOf(source.layers[i][name]);
        const mine = new Float32Array(kvHeads * (to - from) * headDim);
        for (let h = 0; h < kvHeads; h++) {
          const row = h * source.tokenCount;
          mine.set(all.subarray((row + from) * headDim, (row + to) * headDim), h * (to - from) * headDim);
        }
        for (let row = 0; name === "key" && row * headDim < mine.length; row++) {
          turn(mine, row * headDim, -from, source.rotary);
        }
        layer[name] = tensorOf("f32", mine);
      }
    });
    return part;
  }) as [TinyCache, TinyCache];
}

describe("caches one after the other", () => {
  it.each<[string, TinyCacheOptions]>([
    ["half-split", {}],
    ["interleaved, partial", { layout: "interleaved", pairs: 9 }],
  ])("are the cache that they were cut from: %s", async (_, shape) => {
    const source = new TinyCache({ ...shape, tokens: 90, type: "f32" });
    const joined = concatenated(runtime, split(source, { ...shape, type: "f32" }, 37));
    expect(joined.tokenCount).toBe(90);
    for (const layer of [0, 1]) {
      expect(differenceOf(elementsOf(await joined.key(layer)), elementsOf(await source.key(layer)))).toBeLessThan(1e-6);
      expect(elementsOf(await joined.value(layer))).toEqual(elementsOf(await source.value(layer)));
    }
    expect(await joined.query?.(0)).toBeUndefined();
  });

  it("take the queries of the last, moved on as its keys are: scores stay", async () => {
    const [first, last] = [new TinyCache({ tokens: 50 }), new TinyCache({ tokens: 60, queries: 8, seed: 3 })];
    const query = await concatenated(runtime, [first, last]).query?.(1);
    const before = last.layers[1].query!;
    expect(query).toMatchObject({ queryHeads: 4, count: 8, firstToken: 52 + 50, type: "f32" });
    const [moved, expected] = [elementsOf(query!), elementsOf(before)];
    for (let row = 0; row < 32; row++) turn(expected, row * 32, 50, last.rotary);
    expect(differenceOf(moved, expected)).toBeLessThan(1e-6);
  });

  it("of one is that one", async () => {
    const source = new TinyCache({ tokens: 40, queries: 4 });
    const joined = concatenated(runtime, [source]);
    expect(elementsOf(await joined.key(1))).toEqual(elementsOf(await source.key(1)));
  });
});

describe("a profile", () => {
  it.each<[string, Partial<CodecOptions>]>([
    ["of layers", { anchorSpan: 32 }],
    ["of heads before RoPE", { grouping: "head", anchorSpan: 1 }],
  ])(
    "%s has bases and no tokens, survives its file, and a cache on it grows from the first block on",
    async (_, options) => {
      const shape: TinyCacheOptions = { tokens: 400, noise: 0.3, type: "f32" };
      const calibration = split(new TinyCache(shape), shape, 200);
      const profile = await createProfile(runtime, calibration, { ...options, keyBits: 2, valueBits: 2 });
      expect(profile).toMatchObject({ tokenCount: 0, sinks: 0, recent: 0 });
      expect(profile.tokens).toBeUndefined();
      const path = directory("model.svdq");
      await writeArchive(path, profile);
      const read = await readArchive(path);
      expect(read).toStrictEqual(decodeArchive(joinChunks(encodeArchive(profile))));
      expect(read.layers[0].keys[0].books).toEqual(profile.layers[0].keys[0].books);

      using cache = KvCache.fromProfile(runtime, read, { ...ENDS, mixTolerance: 0, scoreStep: 1e-4, driftLimit: null });
      expect([cache.length, cache.stats().codedTokens, cache.model]).toEqual([0, 0, "tiny"]);
      const rows = await Promise.all([0, 1].map((layer) => rowsOf(calibration[1], layer)));
      for (let token = 0; token < 200; token++) {
        for (const layer of [0, 1]) appendRows(cache, layer, rows[layer], token, token + 1);
        expect(cache.codedLength(0)).toBe(Math.max(0, token + 1 - 8) & ~31);
      }
      const saved = cache.save();
      expect(saved).toMatchObject({ sinks: 2, tokenCount: 200, model: "tiny" });
      const queries = someQueries(cache.geometry, 2, 1, 1);
      for (const layer of [0, 1]) {
        expect(codeDifference(runtime, cache, layer, queries)).toBeLessThan(1e-3);
        const { out } = naiveAttention(rows[layer], cache.geometry, queries);
        expect(differenceOf(attended(cache, layer, queries), out)).toBeLessThan(0.4);
      }
      using opened = KvCache.open(runtime, decodeArchive(joinChunks(encodeArchive(saved))));
      expect(opened.save()).toStrictEqual(saved);
    },
  );

  it("of the first half of a real text serves the second", async () => {
    const [half, dump] = [await openFixture(1000), await openFixture()];
    const profile = await createProfile(runtime, [half]);
    using cache = KvCache.fromProfile(runtime, profile);
    for (const layer of [0, 1]) {
      const rows = await rowsOf(dump, layer);
      appendRows(cache, layer, rows, 0, dump.tokenCount);
      const queries = await queriesAt(dump, layer, 1663);
      const { out } = naiveAttention(rows, dump.geometry, queries);
      expect(differenceOf(attended(cache, layer, queries), out), `layer ${layer}`).toBeLessThan(0.35);
    }
    expect(cache.stats().codedTokens).toBe(1568);
  });

  it("is the mean of what it was made from: a centre between theirs", async () => {
    const caches = [1, 5].map((seed) => new TinyCache({ layers: 1, tokens: 128, seed, pairs: 0 }));
    const centreOf = async (some: TinyCache[]): Promise<number[]> =>
      Array.from((await createProfile(runtime, some, { anchorSpan: null })).layers[0].keys[0].centre!, fromHalf);
    const [first, second, both] = [await centreOf([caches[0]]), await centreOf([caches[1]]), await centreOf(caches)];
    both.forEach((x, d) => {
      expect(x).toBeCloseTo((first[d] + second[d]) / 2, 2);
    });
  });

  it.each<[string, (other: TinyCache) => void, RegExp]>([
    ["geometry", (other) => Object.assign(other.geometry, { kvHeads: 3 }), /^caches\[1\]: expected geometry 2 layers, 2 kv heads of 32 as caches\[0\] has, got 2 layers, 3/],
    ["rotary layout", (other) => Object.assign(other.rotary, { layout: "interleaved" }), /expected rotary layout half-split .* got interleaved/],
    ["last frequency", (other) => Object.assign(other.rotary, { frequencies: frequenciesOf(9999, 16) }), /expected rotary frequencies 1 /],
    ["number of pairs", (other) => Object.assign(other.rotary, { frequencies: other.rotary.frequencies.slice(0, 9) }), /expected rotary frequencies 1 /],
    ["layers", (other) => (other.layerNumbers[1] = 5), /expected layers 1 4 as .*, got 1 5/],
    ["model", (other) => Object.assign(other, { model: "other" }), /expected model "tiny" as .*, got "other"/],
  ])("of caches with another %s is refused", async (_, change, message) => {
    const caches = [new TinyCache(), new TinyCache()];
    change(caches[1]);
    const error = await failureOf(() => createProfile(runtime, caches));
    expect(error).toBeInstanceOf(MismatchError);
    expect(error.message).toMatch(message);
  }); // biome-ignore format: a line a difference

  it("of nothing is refused; so is a cache on it that is to be another", async () => {
    expect(await failureOf(() => createProfile(runtime, []))).toStrictEqual(
      new RangeError("caches: expected at least 1, got none"),
    );
    const profile = await createProfile(runtime, [new TinyCache()], { anchorSpan: 64 });
    for (const options of [{ anchorSpan: 32 }, { grouping: "head" }, { exactType: "bf16" }] as const) {
      expect(await failureOf(() => KvCache.fromProfile(runtime, profile, options))).toBeInstanceOf(MismatchError);
    }
    KvCache.fromProfile(runtime, profile, { sinks: 9, recent: 3, anchorSpan: 64 }).dispose();
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("of a cache's archive takes the bases alone", async () => {
    const source = new TinyCache();
    const coded = await compress(runtime, source, { ...ENDS, anchorSpan: 32 });
    using cache = KvCache.fromProfile(runtime, coded, ENDS);
    expect(cache.length).toBe(0);
    expect(cache.save().tokenCount).toBe(0);
    expect(cache.save().tokens).toBeUndefined();
  });
});
