/** Memory that ends in the middle of a call, at any of its reserves; and how much of it a cache says it holds. */
import { beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { type CacheOptions, SELECTIONS } from "../../src/cache/options.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { CapacityError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { failingAt } from "../support/failing-heap.ts";
import {
  appendRows,
  attended,
  grown,
  type LayerRows,
  openFixture,
  rowsOf,
  someQueries,
} from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";

let runtime: Runtime;
let source: TinyCache;
let rows: LayerRows;
let coded: CodedCache;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
  source = new TinyCache({ layers: 1, tokens: 180, noise: 0.3 });
  rows = await rowsOf(source);
  coded = await compress(runtime, source, { sinks: 2, recent: 6, anchorSpan: 32, grouping: "head" });
});

const archived = (cache: KvCache): string => Buffer.from(joinChunks(encodeArchive(cache.save()))).toString("hex");

/** Calls `attempt` for every reserve that could fail, alone or with all behind it, until one lies behind the last. */
function atEveryReserve(attempt: (first: number, forGood: boolean) => boolean): number {
  for (let first = 0; ; first++) {
    const met = [false, true].map((forGood) => attempt(first, forGood));
    expect(runtime.heap.bytesInUse).toBe(0);
    if (!met.includes(true)) return first;
  }
}

describe("memory ends in the middle of", () => {
  it.each<[string, Partial<CacheOptions>, number, number]>([
    ["blocks", { driftLimit: null, monitorEvery: 0 }, 180, 250],
    ["blocks, watched", { monitorEvery: 1 }, 180, 250],
    ["a single token that fills one", { monitorEvery: 1 }, 199, 200],
    ["a shared last block", { driftLimit: null }, 170, 250],
  ])("an append of %s: it is done, or nothing has changed; later all is as ever", (name, options, from, to) => {
    const base = (): KvCache => {
      const cache = KvCache.open(runtime, coded, options);
      if (from < 180) cache.truncate(from);
      for (let token = 180; token < from; token++) appendRows(cache, 0, rows, token - 180, token - 179);
      return cache;
    };
    const [first, last] = from < 180 ? [0, to - from] : [from - 180, to - 180];
    const more = (cache: KvCache): void => appendRows(cache, 0, rows, first, last);
    const queries = someQueries(source.geometry);
    let expected = "";
    {
      using cache = base();
      more(cache);
      appendRows(cache, 0, rows, 100, 140);
      expected = archived(cache);
    }
    let refused = 0;
    const reserves = atEveryReserve((at, forGood) => {
      using cache = base();
      using shared = name.includes("shared") ? cache.fork() : undefined;
      const before = { out: attended(cache, 0, queries), length: cache.length, coded: cache.codedLength(0) };
      const { met, threw } = failingAt(runtime, at, forGood, () => more(cache));
      if (threw) {
        refused++;
        expect([cache.length, cache.codedLength(0)]).toEqual([before.length, before.coded]);
        expect(attended(cache, 0, queries)).toEqual(before.out);
        more(cache);
      }
      expect(cache.length).toBe(to);
      expect(attended(cache, 0, queries).every(Number.isFinite)).toBe(true);
      appendRows(cache, 0, rows, 100, 140);
      expect(archived(cache) === expected, `reserve ${at}`).toBe(true);
      if (shared) expect(attended(shared, 0, queries)).toEqual(before.out);
      return met;
    });
    expect(reserves).toBeGreaterThan(10);
    expect(refused).toBeGreaterThan(2);
  });

  it("open: a CapacityError, nothing held", () => {
    const reserves = atEveryReserve((at, forGood) => {
      let cache: KvCache | undefined;
      const { met, threw } = failingAt(runtime, at, forGood, () => {
        cache = KvCache.open(runtime, coded);
      });
      expect(threw).toBe(met);
      cache?.dispose();
      return met;
    });
    expect(reserves).toBeGreaterThan(20);
  });

  it.each<[string, (cache: KvCache) => unknown]>([
    ["attend", (cache) => attended(cache, 0, someQueries(source.geometry))],
    ["attend with a budget", (cache) => attended(cache, 0, someQueries(source.geometry))],
    ["attend with blocks", (cache) => attended(cache, 0, someQueries(source.geometry))],
    ["attend with landmarks", (cache) => attended(cache, 0, someQueries(source.geometry))],
    ["save", (cache) => archived(cache)],
  ])("%s: a CapacityError, or what it gives without", (name, call) => {
    const options: Partial<CacheOptions> = {
      budget: name.includes("with") ? 64 : null,
      selection: SELECTIONS.find((selection) => name.endsWith(selection)) ?? "tokens",
      monitorEvery: 1,
    };
    let expected: unknown;
    {
      using cache = KvCache.open(runtime, coded, options);
      appendRows(cache, 0, rows, 0, 35);
      expected = call(cache);
    }
    atEveryReserve((at, forGood) => {
      using cache = KvCache.open(runtime, coded, options);
      appendRows(cache, 0, rows, 0, 35);
      const { met, threw } = failingAt(runtime, at, forGood, () => call(cache));
      expect(threw).toBe(met);
      expect(call(cache)).toEqual(expected);
      return met;
    });
  });

  it("fork: a CapacityError, and the cache as before", () => {
    atEveryReserve((at, forGood) => {
      using cache = KvCache.open(runtime, coded);
      let copy: KvCache | undefined;
      const { met, threw } = failingAt(runtime, at, forGood, () => {
        copy = cache.fork();
      });
      expect(threw).toBe(met);
      copy?.dispose();
      expect(cache.length).toBe(180);
      return met;
    });
  });

  it("truncate: it needs none, of a fork neither", () => {
    using cache = KvCache.open(runtime, coded);
    using copy = cache.fork();
    const { met } = failingAt(runtime, 0, true, () => copy.truncate(77));
    expect(met).toBe(false);
    expect([copy.length, cache.length]).toEqual([77, 180]);
  });

  it("shrink: it goes as far as memory lasts", () => {
    atEveryReserve((at, forGood) => {
      using cache = KvCache.open(runtime, coded);
      for (let i = 0; i < 20; i++) appendRows(cache, 0, rows, 0, 180);
      const held = cache.stats().bytes.total;
      const { met, threw } = failingAt(runtime, at, forGood, () => cache.shrink(1));
      expect(threw).toBe(false);
      expect(cache.stats().bytes.total).toBeLessThanOrEqual(held);
      expect(cache.length).toBe(180 * 21);
      expect(attended(cache, 0, someQueries(source.geometry)).every(Number.isFinite)).toBe(true);
      return met && at < 60;
    });
  });

  it("a fit: tokens stay exact, none is lost", () => {
    const queries = someQueries(source.geometry);
    atEveryReserve((at, forGood) => {
      using cache = KvCache.create(runtime, source.geometry, source.rotary, { sinks: 2, recent: 6, fitTokens: 64 });
      const { met, threw } = failingAt(runtime, at, forGood, () => appendRows(cache, 0, rows, 0, 120));
      if (threw) {
        expect(cache.length).toBe(0);
        return met;
      }
      expect(cache.length).toBe(120);
      expect(attended(cache, 0, queries).every(Number.isFinite)).toBe(true);
      appendRows(cache, 0, rows, 120, 180);
      cache.settle();
      expect(cache.codedLength(0)).toBeGreaterThan(90);
      return met;
    });
  });
});

describe("a memory limit", () => {
  it("lets a cache grow up to it, and a later append work once there is room", async () => {
    const small = await PLATFORMS[2].create({ maximumBytes: 24 * 65536, poison: true });
    using cache = KvCache.open(small, coded, { monitorEvery: 1 });
    using other = cache.fork();
    for (let grew = true; grew; ) {
      const { length } = cache;
      try {
        appendRows(cache, 0, rows, 0, 150);
      } catch (error) {
        expect(error).toBeInstanceOf(CapacityError);
        expect((error as Error).message).toMatch(/^linear memory: \d+ bytes needed, limit is 1572864$/);
        expect(cache.length).toBe(length);
        grew = false;
      }
    }
    expect(cache.length).toBeGreaterThan(5000);
    const queries = someQueries(source.geometry);
    cache.truncate(1000);
    const out = attended(cache, 0, queries);
    other.dispose();
    appendRows(cache, 0, rows, 0, 150);
    cache.truncate(1000);
    expect(cache.length).toBe(1000);
    expect(out.every(Number.isFinite)).toBe(true);
  });
});

describe("stats().bytes.total is what the heap holds, within 2 %", () => {
  it.each<[string, Partial<CacheOptions>]>([
    ["as it is", {}],
    ["of heads", { grouping: "head" }],
    ["with landmarks and a monitor", { budget: 64, selection: "landmarks", monitorEvery: 1 }],
  ])("%s, whatever has happened", async (_, options) => {
    const dump = await openFixture();
    const check = (cache: KvCache): void => {
      const { bytes } = cache.stats();
      expect(bytes.total).toBe(bytes.codes + bytes.model + bytes.exact);
      expect(Math.abs(bytes.total / runtime.heap.bytesInUse - 1)).toBeLessThan(0.02);
    };
    expect(runtime.heap.bytesInUse).toBe(0);
    using cache = await grown(runtime, dump, { recent: 20, ...options }, 800);
    check(cache);
    cache.attend(0, someQueries(dump.geometry), new Float32Array(384));
    check(cache);
    for (const layer of [0, 1]) appendRows(cache, layer, await rowsOf(dump, layer), 800, 1660);
    check(cache);
    cache.shrink(1);
    check(cache);
    cache.truncate(600);
    check(cache);
  });
});
