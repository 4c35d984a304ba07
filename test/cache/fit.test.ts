/** Caches that start empty: exact until a basis is fitted, in steps that never lose a token; queries make it better. */
import { beforeAll, describe, expect, it } from "vitest";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { CapacityError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
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
import { elementsOf, TinyCache } from "../support/tiny-cache.ts";

const OPTIONS = {
  sinks: 2,
  recent: 6,
  fitTokens: 64,
  anchorSpan: 32,
  mixTolerance: 0,
  scoreStep: 1e-4,
  driftLimit: null,
};

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

describe.each(["layer", "head"] as const)("a cold start, grouping %s", (grouping) => {
  it("is exact until fitTokens beyond sinks and recent are there, then codes in steps, a token at a time", async () => {
    const source = new TinyCache({ layers: 1, tokens: 200, noise: 0.3 });
    const rows = await rowsOf(source);
    const queries = someQueries(source.geometry, 2, 1, 1);
    using cache = KvCache.create(runtime, source.geometry, source.rotary, { ...OPTIONS, grouping });
    let fittedAt = 0;
    for (let token = 0; token < 200; token++) {
      appendRows(cache, 0, rows, token, token + 1);
      const coded = cache.codedLength(0);
      if (token + 1 < 72) expect(coded).toBe(0);
      if (coded > 0) fittedAt ||= token + 1;
      expect(coded % 32).toBe(0);
      if (coded > 0 && token % 10 > 0) continue;
      if (coded > 0) {
        expect(codeDifference(runtime, cache, 0, queries)).toBeLessThan(1e-3);
        continue;
      }
      const held = { tokens: token + 1, keys: cut(rows.keys, token + 1), values: cut(rows.values, token + 1) };
      const { out } = naiveAttention(held, source.geometry, queries);
      expect(differenceOf(attended(cache, 0, queries), out)).toBeLessThan(1e-6);
    }
    // More than one step, fewer than a block.
    expect(fittedAt).toBeGreaterThan(73);
    expect(fittedAt).toBeLessThan(72 + 32);
    expect(cache.codedLength(0)).toBe(192);
  });

  it("is over at once with settle, and takes a prefill whole", async () => {
    const source = new TinyCache({ layers: 1, tokens: 200, noise: 0.3 });
    const rows = await rowsOf(source);
    using cache = KvCache.create(runtime, source.geometry, source.rotary, { ...OPTIONS, grouping });
    appendRows(cache, 0, rows, 0, 71);
    appendRows(cache, 0, rows, 71, 72);
    expect(cache.codedLength(0)).toBe(0);
    cache.settle();
    expect(cache.codedLength(0)).toBe(64);
    using whole = KvCache.create(runtime, source.geometry, source.rotary, { ...OPTIONS, grouping });
    appendRows(whole, 0, rows, 0, 200);
    expect(whole.codedLength(0)).toBe(192);
    expect(codeDifference(runtime, whole, 0, someQueries(source.geometry))).toBeLessThan(1e-3);
  });

  it("that is cut short begins again", async () => {
    const source = new TinyCache({ layers: 1, tokens: 200, noise: 0.3 });
    const rows = await rowsOf(source);
    using cache = KvCache.create(runtime, source.geometry, source.rotary, { ...OPTIONS, grouping });
    appendRows(cache, 0, rows, 0, 71);
    appendRows(cache, 0, rows, 71, 72);
    cache.truncate(70);
    cache.settle();
    expect(cache.codedLength(0)).toBe(0);
    appendRows(cache, 0, rows, 70, 200);
    cache.settle();
    expect(codeDifference(runtime, cache, 0, someQueries(source.geometry))).toBeLessThan(1e-3);
  });
});

const cut = (values: Float32Array, tokens: number): Float32Array => {
  const out = new Float32Array(2 * tokens * 32);
  for (let h = 0; h < 2; h++) out.set(values.subarray(h * 200 * 32, (h * 200 + tokens) * 32), h * tokens * 32);
  return out;
};

describe("queries", () => {
  it("noted, or attended with, give a better fit than none", async () => {
    // They look at the first 8 dimensions of a head 30 times as much as at the others.
    const shape = { layers: 1, tokens: 232, pairs: 0, noise: 0.5, queries: 24, focus: 8 };
    const source = new TinyCache(shape);
    const rows = await rowsOf(source);
    const all = elementsOf(source.layers[0].query!);
    const each = Array.from({ length: 24 }, (_, i) =>
      Float32Array.from({ length: 4 * 32 }, (_, n) => all[((n >> 5) * 24 + i) * 32 + (n & 31)]),
    );
    const errorWith = (how: "none" | "noted" | "attended"): number => {
      using cache = KvCache.create(runtime, source.geometry, source.rotary, { ...OPTIONS, fitTokens: 128, keyBits: 1 });
      appendRows(cache, 0, rows, 0, 130);
      if (how === "noted") cache.noteQueries(0, all, 4, 208);
      if (how === "attended") for (const queries of each) cache.attend(0, queries, new Float32Array(128));
      appendRows(cache, 0, rows, 130, 232);
      cache.settle();
      appendRows(cache, 0, rows, 0, 1);
      expect(cache.codedLength(0)).toBeGreaterThan(150);
      cache.truncate(232);
      let sum = 0;
      for (const queries of each) {
        const scores = cache.scores(0, queries);
        for (let q = 0; q < 4; q++) {
          for (let t = 0; t < 232; t++) {
            let exact = 0;
            for (let d = 0; d < 32; d++) exact += queries[q * 32 + d] * rows.keys[((q >> 1) * 232 + t) * 32 + d];
            sum += (scores[q * 232 + t] - exact / Math.sqrt(32)) ** 2;
          }
        }
      }
      return sum;
    };
    const none = errorWith("none");
    expect(errorWith("noted")).toBeLessThan(0.3 * none);
    expect(errorWith("attended")).toBeLessThan(0.3 * none);
  });
});

describe("a real cache", () => {
  it("fits, grows without an alarm, and attends close to exact attention", async () => {
    const events: unknown[] = [];
    const dump = await openFixture();
    using cache = KvCache.create(runtime, dump.geometry, dump.rotary, { onEvent: (event) => events.push(event) });
    const rows = await Promise.all([0, 1].map((layer) => rowsOf(dump, layer)));
    for (let token = 0; token < 1500; token += 50) {
      for (const layer of [0, 1]) appendRows(cache, layer, rows[layer], token, token + 50);
    }
    for (let token = 1500; token < dump.tokenCount; token++) {
      for (const layer of [0, 1]) {
        appendRows(cache, layer, rows[layer], token, token + 1);
        if (token < 1536) continue;
        const queries = await queriesAt(dump, layer, token);
        const out = attended(cache, layer, queries);
        if (token < dump.tokenCount - 1) continue;
        const exact = naiveAttention(rows[layer], dump.geometry, queries);
        expect(differenceOf(out, exact.out), `layer ${layer}`).toBeLessThan(0.35);
      }
    }
    expect(events).toEqual([]);
    expect(cache.codedLength(0)).toBeGreaterThan(1500);
    expect(cache.stats().attended.calls).toBe(256);
  });
});

describe("memory that does not last for a fit", () => {
  const LIMIT = 128 * 65536;

  it("leaves tokens exact and is tried again; nothing is lost", async () => {
    const source = new TinyCache({ layers: 1, kvHeads: 4, headDim: 64, tokens: 300, noise: 0.3 });
    const rows = await rowsOf(source);
    const small = await PLATFORMS[2].create({ maximumBytes: LIMIT, poison: true });
    using cache = KvCache.create(small, source.geometry, source.rotary, OPTIONS);
    appendRows(cache, 0, rows, 0, 40);
    // What remains is too little for a fit, but enough for more tokens.
    const hog = small.heap.reserve(LIMIT - small.heap.bytesInUse - 1_000_000);
    for (let t = 40; t < 120; t += 4) appendRows(cache, 0, rows, t, t + 4);
    expect(cache.codedLength(0)).toBe(0);
    expect(cache.length).toBe(120);
    small.heap.release(hog);
    for (let t = 120; t < 200; t++) appendRows(cache, 0, rows, t, t + 1);
    expect(cache.codedLength(0)).toBeGreaterThan(100);
    expect(codeDifference(small, cache, 0, someQueries(source.geometry))).toBeLessThan(2e-3);
  });

  it("is said by settle", async () => {
    const source = new TinyCache({ layers: 2, kvHeads: 4, headDim: 64, tokens: 100, noise: 0.3 });
    const rows = await rowsOf(source);
    const small = await PLATFORMS[2].create({ maximumBytes: LIMIT, poison: true });
    using cache = KvCache.create(small, source.geometry, source.rotary, OPTIONS);
    // Steps are taken with tokens of the last layer: this one's fit has only begun.
    appendRows(cache, 0, rows, 0, 80);
    const hog = small.heap.reserve(LIMIT - small.heap.bytesInUse - 1_000_000);
    expect(() => cache.settle()).toThrow(CapacityError);
    expect([cache.layerLength(0), cache.codedLength(0)]).toEqual([80, 0]);
    small.heap.release(hog);
    appendRows(cache, 0, rows, 80, 81);
    cache.settle();
    expect([cache.layerLength(0), cache.codedLength(0)]).toEqual([81, 64]);
  });
});
