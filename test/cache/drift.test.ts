/** Keys that leave their basis: noticed, fitted again; or, where that is switched off, caught by the monitor. */
import { beforeAll, describe, expect, it } from "vitest";
import type { CacheEvent } from "../../src/cache/events.ts";
import { KvCache } from "../../src/cache/kv-cache.ts";
import type { CacheOptions } from "../../src/cache/options.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { appendRows, attended, differenceOf, naiveAttention, someQueries } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { exactScores, NO_ROTARY, type Stream, streamOf } from "../support/streams.ts";

const OPTIONS = { sinks: 2, fitTokens: 64, anchorSpan: 32, keyBits: 1.5, mixTolerance: 0, monitorEvery: 0 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

/** A cache that took the stream in, some tokens at a time, attending after each. */
function fed(stream: Stream, given: Partial<CacheOptions>, step = 5) {
  const events: CacheEvent[] = [];
  const { kvHeads, headDim } = stream;
  const options = { ...OPTIONS, ...given, onEvent: (event: CacheEvent) => events.push(event) };
  const cache = KvCache.create(runtime, { layerCount: 1, kvHeads, headDim }, NO_ROTARY, options);
  for (let token = 0; token < stream.tokens; token += step) {
    appendRows(cache, 0, stream, token, Math.min(stream.tokens, token + step));
    attended(cache, 0, someQueries(cache.geometry, 2, 1 + (token % 7)));
  }
  return { cache, events };
}

/** Mean square of score errors of tokens from `from` on, but for the last `recent` of 96. */
function scoreError(cache: KvCache, stream: Stream, from: number): number {
  const queries = someQueries(cache.geometry, 2, 3);
  const [got, exact] = [cache.scores(0, queries), exactScores(stream, queries)];
  let [sum, count] = [0, 0];
  for (let q = 0; q < 2 * stream.kvHeads; q++) {
    for (let t = from; t < stream.tokens - 96; t++, count++) {
      sum += (got[q * stream.tokens + t] - exact[q * stream.tokens + t]) ** 2;
    }
  }
  return sum / count;
}

describe.each(["layer", "head"] as const)("keys that turn away, grouping %s", (grouping) => {
  it("are noticed, then coded on a new basis with a smaller error than on the old one", () => {
    const stream = streamOf({ tokens: 1000, turnsAt: 400 });
    const { cache, events } = fed(stream, { grouping });
    const { cache: stubborn, events: none } = fed(stream, { grouping, driftLimit: null });
    expect(none).toEqual([]);
    expect(events.slice(0, 2).map(({ type }) => type)).toEqual(["drift", "refit"]);
    const [drift, refit] = events as [CacheEvent & { type: "drift" }, CacheEvent];
    expect(drift.layer).toBe(0);
    expect(drift.missed).toBeGreaterThan(2 * Math.max(drift.usual, 0.01));
    expect(drift.position).toBeGreaterThan(400 + 64);
    expect(refit.position).toBeGreaterThanOrEqual(drift.position);
    // Steps come with tokens: it takes some, not hundreds.
    expect(refit.position).toBeLessThan(drift.position + 60);
    const from = refit.position + 10;
    expect(scoreError(cache, stream, from)).toBeLessThan(0.3 * scoreError(stubborn, stream, from));
    expect(scoreError(cache, stream, 100)).toBeLessThan(scoreError(stubborn, stream, 100));

    // Both segments are attended to, and forgotten from the end on.
    const queries = someQueries(cache.geometry, 2, 1, 1);
    const { out } = naiveAttention(stream, cache.geometry, queries);
    expect(differenceOf(attended(cache, 0, queries), out)).toBeLessThan(0.35);
    expect(cache.save().layers[0].earlier?.length).toBeGreaterThan(0);
    cache.truncate(350);
    expect(cache.save().tokenCount).toBe(350);
    appendRows(cache, 0, stream, 350, 700);
    expect(cache.length).toBe(700);
    cache.dispose();
    stubborn.dispose();
    expect(runtime.heap.bytesInUse).toBe(0);
  });
});

it("a new basis is one of the keys about their own mean, however far that lies from the old centre", () => {
  const { cache: old } = fed(streamOf({ tokens: 300 }), {});
  const stream = streamOf({ tokens: 1000, turnsAt: 0, shift: 12, rest: 0.02 });
  const { cache: fresh } = fed(stream, { keyBits: 1 });
  const events: CacheEvent[] = [];
  const onEvent = (event: CacheEvent) => events.push(event);
  // Any more missed than at first is drift: the moments are those of the new keys alone.
  const options = { sinks: 2, fitTokens: 64, keyBits: 1, mixTolerance: 0, monitorEvery: 0, driftLimit: 1, onEvent };
  using cache = KvCache.fromProfile(runtime, old.save(), options);
  for (let t = 0; t < 1000; t += 5) appendRows(cache, 0, stream, t, t + 5);
  const refit = events.find(({ type }) => type === "refit");
  expect(refit?.position).toBeLessThan(500);
  expect(scoreError(cache, stream, 600)).toBeLessThan(1.25 * scoreError(fresh, stream, 600));
  old.dispose();
  fresh.dispose();
});

describe("no drift", () => {
  it("is seen where keys stay in their subspace", () => {
    for (const seed of [1, 2, 3]) {
      const { cache, events } = fed(streamOf({ tokens: 900, seed }), {});
      expect(events).toEqual([]);
      cache.dispose();
    }
  });
});

it("is noticed where one head of several turns away", () => {
  const stream = streamOf({ kvHeads: 3, tokens: 800, turnsAt: 350, turning: [2] });
  const { cache, events } = fed(stream, { grouping: "head" });
  expect(events.slice(0, 2).map(({ type }) => type)).toEqual(["drift", "refit"]);
  cache.dispose();
});

it("without recent tokens to choose books by, is not fitted", () => {
  const { cache, events } = fed(streamOf({ tokens: 800, turnsAt: 350 }), { recent: 0 }, 1);
  expect(events.map(({ type }) => type)).not.toContain("refit");
  expect(attended(cache, 0, someQueries(cache.geometry)).every(Number.isFinite)).toBe(true);
  cache.dispose();
});

describe("the monitor", () => {
  it("tells of drift that is not fitted, and new tokens stay exact from then on", () => {
    const stream = streamOf({ tokens: 1000, turnsAt: 400 });
    const { cache, events } = fed(stream, { driftLimit: null, monitorEvery: 2, monitorLimit: 0.05 });
    expect(events.map(({ type }) => type)).toEqual(["error"]);
    const [event] = events as [CacheEvent & { type: "error" }];
    expect(event).toMatchObject({ layer: 0, limit: 0.05 });
    expect(event.error).toBeGreaterThan(0.05);
    expect(event.position).toBeGreaterThan(400);
    const coded = cache.codedLength(0);
    expect(coded).toBeLessThan(event.position);
    // What came after is held and scored as it was, in f16.
    const queries = someQueries(cache.geometry);
    const [got, exact] = [cache.scores(0, queries), exactScores(stream, queries)];
    for (let t = coded + 2; t < 1000; t++) expect(Math.abs(got[t] - exact[t])).toBeLessThan(0.02);
    expect(cache.length).toBe(1000);
    // A fork knows.
    using copy = cache.fork();
    appendRows(copy, 0, stream, 0, 200);
    expect(copy.codedLength(0)).toBe(coded);
    cache.dispose();
  });

  it("is silent where codes are good, also for old tokens of lower precision, and after truncation", () => {
    const stream = streamOf({ tokens: 900 });
    const { cache, events } = fed(stream, { monitorEvery: 1, monitorLimit: 0.2, keyBits: 3, driftLimit: null });
    cache.truncate(500);
    for (let token = 500; token < 900; token++) {
      appendRows(cache, 0, stream, token, token + 1);
      attended(cache, 0, someQueries(cache.geometry, 2, 1 + (token % 7)));
    }
    cache.shrink(cache.stats().bytes.total - 1);
    for (let i = 1; i < 30; i++) attended(cache, 0, someQueries(cache.geometry, 2, i));
    expect(events).toEqual([]);
    cache.dispose();
  });
});
