/** Caches of several segments, saved as an archive of version 2 or 3 and opened again: the same bits. */
import { beforeAll, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/reader.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { codedTokens, segmentsOf } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import {
  appendRows,
  attended,
  differenceOf,
  naiveAttention,
  restoredRows,
  someQueries,
} from "../support/live-cache.ts";
import { pairSpans } from "../support/pair-spans.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { NO_ROTARY, streamOf } from "../support/streams.ts";
import { TinyCache } from "../support/tiny-cache.ts";

const OPTIONS = { sinks: 2, fitTokens: 64, anchorSpan: 32, keyBits: 2, mixTolerance: 0, monitorEvery: 0 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({ poison: true });
});

function fed(grouping: "layer" | "head", tokens: number): KvCache {
  const stream = streamOf({ tokens, turnsAt: 400 });
  const geometry = { layerCount: 1, kvHeads: stream.kvHeads, headDim: stream.headDim };
  const options = { ...OPTIONS, grouping };
  const cache = KvCache.create(runtime, geometry, NO_ROTARY, options);
  for (let token = 0; token < tokens; token += 5) appendRows(cache, 0, stream, token, Math.min(tokens, token + 5));
  cache.settle();
  return cache;
}

function shrunk(cache: KvCache): KvCache {
  const held = cache.stats().bytes.total;
  expect(cache.shrink(held - 1)).toBeLessThan(held);
  return cache;
}

/** With RoPE, on spans of 32 or one for each pair. */
async function lowered(grouping: "layer" | "head"): Promise<KvCache> {
  const anchorSpan = grouping === "layer" ? pairSpans(32) : 32;
  const source = new TinyCache({ layers: 1, tokens: 5000, headDim: 64, noise: 0.3 });
  const codec = { sinks: 2, recent: 40, grouping, anchorSpan, keyBits: 3, valueBits: 3 };
  const coded = await compress(runtime, source, codec);
  return shrunk(KvCache.open(runtime, coded, { mixTolerance: 0 }));
}

const MADE: Record<string, (grouping: "layer" | "head") => KvCache | Promise<KvCache>> = {
  refit: (grouping) => fed(grouping, 1000),
  "lowered precision": lowered,
  both: (grouping) => shrunk(fed(grouping, 5000)),
  "a fork cut inside a segment": (grouping) => {
    using cache = fed(grouping, 1000);
    const fork = cache.fork();
    fork.truncate(fork.length - 171);
    return fork;
  },
};

it.each(Object.keys(MADE).flatMap((name) => (["layer", "head"] as const).map((grouping) => [name, grouping] as const)))(
  "%s, grouping %s: opened again, attends and restores the same",
  async (name, grouping) => {
    using cache = await MADE[name](grouping);
    const saved = cache.save();
    const bytes = joinChunks(encodeArchive(saved));
    expect(bytes[8]).toBe(Array.isArray(saved.anchorSpan) ? 3 : 2);
    const read = decodeArchive(bytes);
    expect(read).toEqual(saved);
    expect(joinChunks(encodeArchive(read))).toEqual(bytes);
    const segments = segmentsOf(read.layers[0], codedTokens(read));
    expect(segments.length).toBeGreaterThan(1);
    const { options } = cache;
    using again = KvCache.open(runtime, read, { ...options, onEvent: null });
    const queries = someQueries(cache.geometry, 2, 5);
    expect(attended(again, 0, queries)).toEqual(attended(cache, 0, queries));
    expect(again.save()).toEqual(saved);
    expect(restoreLayer(runtime, read, 0, "f32")).toEqual(restoreLayer(runtime, saved, 0, "f32"));
    const naive = naiveAttention(restoredRows(runtime, read), cache.geometry, queries);
    expect(differenceOf(attended(again, 0, queries), naive.out)).toBeLessThan(3e-3);
  },
);
