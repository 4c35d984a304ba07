/** Attention on codes of every shape: what naive attention on the restored cache gives, on memory that never stands still. */
import { beforeAll, describe, expect, it } from "vitest";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { DEFAULT_CACHE_OPTIONS } from "../../src/cache/options.ts";
import { compress } from "../../src/codec/compress.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import {
  appendRows,
  attended,
  codeDifference,
  differenceOf,
  naiveAttention,
  rowsOf,
  someQueries,
} from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache, type TinyCacheOptions } from "../support/tiny-cache.ts";

const ENDS = { sinks: 2, recent: 6 };
const EXACT = { mixTolerance: 0, scoreStep: 1e-4 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

/** Attends on a compressed cache and compares. */
async function differenceOn(
  shape: TinyCacheOptions,
  options: Partial<CodecOptions>,
  shared = 2,
  on = runtime,
): Promise<number> {
  const source = new TinyCache({ layers: 1, noise: 0.3, ...shape });
  const coded = await compress(on, source, { ...ENDS, anchorSpan: 32, ...options });
  using cache = KvCache.open(on, coded, EXACT);
  return codeDifference(on, cache, 0, someQueries(source.geometry, shared));
}

describe("attends as restored rows do", () => {
  it.each([1, 2, 3, 4, 5, 7, 8])("%i query heads a kv head", async (shared) => {
    for (const grouping of ["layer", "head"] as const) {
      expect(await differenceOn({}, { grouping }, shared)).toBeLessThan(1e-3);
    }
  });

  it.each([32, 36, 64, 96, 128, 256])("heads of %i", async (headDim) => {
    for (const grouping of ["layer", "head"] as const) {
      expect(await differenceOn({ headDim }, { grouping }, 3)).toBeLessThan(1e-3);
    }
  });

  it.each([1, 2, 3, 5])("%i kv heads", async (kvHeads) => {
    for (const grouping of ["layer", "head"] as const) {
      expect(await differenceOn({ kvHeads }, { grouping })).toBeLessThan(1e-3);
    }
  });

  it.each<[string, TinyCacheOptions]>([
    ["interleaved", { layout: "interleaved" }],
    ["partial", { pairs: 10 }],
    ["partial, interleaved", { layout: "interleaved", pairs: 5 }],
    ["no", { pairs: 0 }],
  ])("%s rotary, whatever the span", async (_, shape) => {
    for (const anchorSpan of [1, 8, 32, 64, null]) {
      expect(await differenceOn({ tokens: 150, ...shape }, { anchorSpan })).toBeLessThan(1e-3);
    }
  });

  it.each([1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97])("%i coded tokens", async (coded) => {
    for (const anchorSpan of [1, 32]) {
      expect(await differenceOn({ tokens: coded + 8 }, { anchorSpan })).toBeLessThan(1e-3);
      expect(await differenceOn({ tokens: coded }, { anchorSpan, sinks: 0, recent: 0 })).toBeLessThan(1e-3);
    }
  });

  it.each<[string, Partial<CodecOptions>]>([
    ["widths of all sizes", { keyBits: 3, valueBits: 3 }],
    ["hardly any", { keyBits: 0.1, valueBits: 0.1 }],
    ["no channel at all", { keyBits: 0.01, valueBits: 0.01 }],
    ["8 bits", { keyBits: 8, valueBits: 8 }],
    ["the paper's schedule", { schedule: [8, 4, 2, 1, 1, 0, 0, 0] }],
  ])("%s", async (_, options) => {
    for (const grouping of ["layer", "head"] as const) {
      expect(await differenceOn({}, { grouping, ...options })).toBeLessThan(1e-3);
    }
  });

  it("more planes than tables have room for: 384", async () => {
    for (const budget of [null, 32]) {
      const source = new TinyCache({ layers: 1, kvHeads: 3, headDim: 64, tokens: 250, rank: 192, noise: 1 });
      const coded = await compress(runtime, source, { ...ENDS, anchorSpan: 32, keyBits: 8 });
      using cache = KvCache.open(runtime, coded, { ...EXACT, budget });
      const out = attended(cache, 0, someQueries(source.geometry));
      expect(out.every(Number.isFinite)).toBe(true);
      if (budget === null) expect(codeDifference(runtime, cache, 0, someQueries(source.geometry))).toBeLessThan(1e-3);
    }
  });

  it("queries so large that one token takes all weight, so small that all share it, and zero", async () => {
    const source = new TinyCache({ layers: 1, noise: 0.3 });
    const coded = await compress(runtime, source, { ...ENDS, anchorSpan: 32 });
    using cache = KvCache.open(runtime, coded, EXACT);
    for (const size of [0, 1e-30, 1e-3, 100]) {
      const queries = someQueries(source.geometry, 2, 1, size);
      expect(codeDifference(runtime, cache, 0, queries), `queries of ${size}`).toBeLessThan(1e-3);
    }
  });

  it("so many tokens that kv heads take turns", async () => {
    const source = new TinyCache({ layers: 1, kvHeads: 3, tokens: 11_500, noise: 0.3 });
    for (const grouping of ["layer", "head"] as const) {
      const coded = await compress(runtime, source, { ...ENDS, grouping, anchorSpan: 1024, basisBits: 8 });
      using cache = KvCache.open(runtime, coded, { ...EXACT, monitorEvery: 0 });
      const queries = someQueries(source.geometry, 16, 1, 1);
      expect(codeDifference(runtime, cache, 0, queries)).toBeLessThan(1e-3);
      const planes = coded.layers[0].keys.reduce((sum, group) => sum + group.planes.length, 0);
      expect(cache.stats().attended.scoredKeyBytes).toBe(planes);
    }
  });

  it("layers apart", async () => {
    const source = new TinyCache({ layers: 3, noise: 0.3 });
    const coded = await compress(runtime, source, { ...ENDS, anchorSpan: 32 });
    using cache = KvCache.open(runtime, coded, EXACT);
    const queries = someQueries(source.geometry);
    for (let layer = 0; layer < 3; layer++) expect(codeDifference(runtime, cache, layer, queries)).toBeLessThan(1e-3);
  });
});

describe("exact tokens alone", () => {
  it.each([
    ["a single one", 1, 4],
    ["sinks", 4, 4],
    ["recent", 9, 0],
    ["both", 30, 4],
  ])("%s: as f32 attention", async (_, tokens, sinks) => {
    const source = new TinyCache({ layers: 1, tokens, type: "f32" });
    const rows = await rowsOf(source);
    using cache = KvCache.create(runtime, source.geometry, source.rotary, { sinks, exactType: "f32" });
    appendRows(cache, 0, rows, 0, tokens);
    for (const shared of [1, 3, 8]) {
      const queries = someQueries(source.geometry, shared);
      const { out } = naiveAttention(rows, source.geometry, queries);
      expect(differenceOf(attended(cache, 0, queries), out)).toBeLessThan(1e-6);
    }
  });
});

describe("the report", () => {
  it("counts bytes of keys and values, of exact tokens and blocks; stats sum them up", async () => {
    const source = new TinyCache({ layers: 1, tokens: 8 + 100 });
    const coded = await compress(runtime, source, { ...ENDS, anchorSpan: 32 });
    using cache = KvCache.open(runtime, coded, { mixTolerance: 0 });
    const queries = someQueries(source.geometry);
    const report = cache.attend(0, queries, new Float32Array(queries.length));
    const [keys, values] = [coded.layers[0].keys[0], coded.layers[0].values[0]];
    expect(report).toEqual({
      scannedKeyBytes: 0,
      scoredKeyBytes: keys.planes.length,
      valueBytes: values.planes.length + 4 * 32,
      exactBytes: 8 * 2 * 32 * 2 * 4,
      mixedBlocks: 4,
      blocks: 4,
      leftOutWeight: 0,
    });
    cache.attend(0, queries, new Float32Array(queries.length));
    expect(cache.stats().attended).toEqual({
      ...Object.fromEntries(Object.entries(report).map(([name, x]) => [name, 2 * x])),
      calls: 2,
    });
  });

  it("says the greatest weight left out, not a sum, over calls", async () => {
    const source = new TinyCache({ layers: 1, tokens: 300 });
    const coded = await compress(runtime, source, { ...ENDS, anchorSpan: 32 });
    using cache = KvCache.open(runtime, coded, { mixTolerance: 0.9 });
    const queries = someQueries(source.geometry, 2, 1, 1);
    const report = cache.attend(0, queries, new Float32Array(queries.length));
    expect(report.leftOutWeight).toBeGreaterThan(0.01);
    cache.attend(0, queries, new Float32Array(queries.length));
    expect(cache.stats().attended.leftOutWeight).toBe(report.leftOutWeight);
  });
});

describe("the same bits", () => {
  const shape: TinyCacheOptions = { layers: 1, tokens: 150, noise: 0.3 };
  it.each<[string, Partial<CodecOptions>, number | null]>([
    ["of a layer's group", {}, null],
    ["of heads, after RoPE", { grouping: "head", anchorSpan: null }, null],
    ["of a span of 1", { anchorSpan: 1 }, null],
    ["of a budget", { keyBits: 2 }, 40],
    ["of a budget by landmarks", { anchorSpan: 8 }, 40],
  ])("%s come from twins, debug and release module", async (_, options, budget) => {
    const coded = await compress(runtime, new TinyCache(shape), { ...ENDS, anchorSpan: 32, ...options });
    const outputs = [];
    for (const { create } of PLATFORMS) {
      using cache = KvCache.open(await create(), coded, { ...DEFAULT_CACHE_OPTIONS, ...optionsOf(coded), budget });
      const parts = [1, 3, 4, 7].map((shared) => attended(cache, 0, someQueries(coded.geometry, shared)));
      outputs.push(parts.map((part) => Buffer.from(part.buffer).toString("hex")).join());
    }
    expect(outputs[1]).toBe(outputs[0]);
    expect(outputs[2]).toBe(outputs[0]);
  });
});

const optionsOf = ({ anchorSpan, exactType, sinks, layers }: Awaited<ReturnType<typeof compress>>) =>
  ({ anchorSpan, exactType, sinks, grouping: layers[0].keys.length > 1 ? "head" : "layer" }) as const;
