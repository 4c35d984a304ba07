/** Replays on codes agree with attention on restored rows, as metrics.ts measures it; scores by position. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { KvCache } from "../../src/cache/kv-cache.ts";
import { compress } from "../../src/codec/compress.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import { type Dump, openDump } from "../../src/engines/dump.ts";
import { type AttentionLayer, compareAttention, exactAttention } from "../../src/evaluation/metrics.ts";
import { replay } from "../../src/evaluation/replay.ts";
import { instantiate, type Runtime } from "../../src/runtime/runtime.ts";
import { noise } from "../support/noise.ts";
import { releaseModule } from "../support/platforms.ts";

const FIXTURE = "test/fixtures/smollm2-novel.safetensors";
const [TOKENS, CONTEXT, QUERY_HEADS, KV_HEADS, DIM] = [500, 300, 4, 2, 32];

let runtime: Runtime;
let inUse = 0;

beforeEach(async () => {
  runtime = await instantiate(releaseModule(), { poison: true });
  inUse = runtime.heap.bytesInUse;
});

afterEach(() => expect(runtime.heap.bytesInUse).toBe(inUse));

/** One layer of noise in f32, tokens before `queried` without queries. */
function tinyDump(queried: number, tokenCount = TOKENS): Dump {
  const count = TOKENS - queried;
  const tensor = (rows: number, seed: number) => new Uint8Array(noise(rows * DIM, seed).buffer);
  const query = { type: "f32", bytes: tensor(QUERY_HEADS * count, 3), queryHeads: QUERY_HEADS, count } as const;
  const part = (seed: number) => async () => ({ type: "f32", bytes: tensor(KV_HEADS * TOKENS, seed) }) as const;
  const short = (seed: number) => async () => {
    const bytes = tensor(KV_HEADS * TOKENS, seed);
    const [held, kept] = [4 * DIM * TOKENS, 4 * DIM * tokenCount];
    return { type: "f32", bytes: Buffer.concat([0, held].map((at) => bytes.subarray(at, at + kept))) } as const;
  };
  const read = tokenCount === TOKENS ? part : short;
  return {
    geometry: { layerCount: 1, kvHeads: KV_HEADS, headDim: DIM },
    rotary: { layout: "half-split", frequencies: Float64Array.from({ length: DIM / 2 }, (_, i) => 0.5 ** i) },
    layerNumbers: [0],
    model: "",
    text: "",
    tokenCount,
    heldTokens: TOKENS,
    key: read(1),
    value: read(2),
    query: async () => undefined,
    queryTensor: async () => ({ ...query, firstToken: queried }),
    close: async () => undefined,
  };
}

describe("replay", () => {
  it.each([1, 32, null])("agrees with attention on restored rows, span %s", async (anchorSpan) => {
    const coded = await compress(runtime, tinyDump(CONTEXT, CONTEXT), { anchorSpan, keyBits: 3, recent: 20 });
    const dump = tinyDump(CONTEXT);
    // All tokens of the continuation stay exact.
    const fine = { recent: 512, scoreStep: 1e-6, mixTolerance: 0 };
    const result = await replay(runtime, coded, dump, fine);
    const f32 = async (read: () => Promise<{ bytes: Uint8Array }>) =>
      new Float32Array(Uint8Array.from((await read()).bytes).buffer);
    const query = await dump.queryTensor(0);
    const layer: AttentionLayer = {
      queries: await f32(async () => query!),
      queryHeads: QUERY_HEADS,
      count: TOKENS - CONTEXT,
      firstToken: CONTEXT,
      keys: await f32(() => dump.key(0)),
      values: await f32(() => dump.value(0)),
      kvHeads: KV_HEADS,
      tokens: TOKENS,
      headDim: DIM,
    };
    const restored = restoreLayer(runtime, coded, 0, "f32");
    const replace = (exact: Float32Array, bytes: Uint8Array): Float32Array => {
      const rows = new Float32Array(Uint8Array.from(bytes).buffer);
      const out = exact.slice();
      for (let head = 0; head < KV_HEADS; head++) {
        const size = CONTEXT * DIM;
        out.set(rows.subarray(head * size, (head + 1) * size), head * TOKENS * DIM);
      }
      return out;
    };
    const expected = compareAttention(runtime, exactAttention(runtime, layer), {
      keys: replace(layer.keys, restored.key),
      values: replace(layer.values, restored.value),
    });
    expect(result).toMatchObject({ tokens: TOKENS - CONTEXT, firstLength: CONTEXT + 1, recall: 1, attendedWeight: 1 });
    expect(result.attentionKl / expected.attentionKl).toBeCloseTo(1, 2);
    expect(result.outputError / expected.outputError).toBeCloseTo(1, 2);
  });

  it("of a cache that is exact but for its type finds next to no error", async () => {
    const coded = await compress(runtime, tinyDump(CONTEXT, CONTEXT), { keyBits: 8, valueBits: 8, basisBits: 12 });
    const result = await replay(runtime, coded, tinyDump(CONTEXT), { recent: 512 });
    expect(result.attentionKl).toBeLessThan(1e-4);
    expect(result.outputError).toBeLessThan(1e-3);
  });

  it("codes the continuation as it comes, and starts at the first query", async () => {
    runtime = await instantiate(releaseModule(), { growOnReserve: true, poison: true });
    const coded = await compress(runtime, tinyDump(CONTEXT, CONTEXT), { anchorSpan: 32, recent: 20 });
    const result = await replay(runtime, coded, tinyDump(450));
    expect(result).toMatchObject({ tokens: 50, firstLength: 451 });
    expect(result.keyTraffic.all).toBeLessThan(result.keyTraffic.scored as number);
    expect(result.bytesRead).toBeLessThan(result.bytesReadF16);
  });

  it("stops and gives everything back", async () => {
    const coded = await compress(runtime, tinyDump(CONTEXT, CONTEXT), { anchorSpan: 32 });
    const work = replay(runtime, coded, tinyDump(CONTEXT), {}, { signal: AbortSignal.abort(new Error("enough")) });
    await expect(work).rejects.toThrow("enough");
  });
});

describe("scores of a cache", () => {
  it("are those of attend: their softmax weighs the values", async () => {
    const dump = await openDump(FIXTURE);
    const coded = await compress(runtime, dump, { anchorSpan: 256, grouping: "head" });
    await dump.close();
    using cache = KvCache.open(runtime, coded, { budget: 100, selection: "blocks", mixTolerance: 0 });
    const queries = noise(9 * 64, 4).map((x) => 4 * x);
    const before = cache.stats();
    const scores = cache.scores(1, queries);
    expect(cache.stats()).toEqual(before);
    expect(cache.codedLength(1)).toBe(1664 - 68);
    const attended = scores.map((score) => (score === -Infinity ? 0 : 1));
    for (let head = 0; head < 9; head++) {
      const row = attended.subarray(head * 1664, (head + 1) * 1664);
      // 100 tokens are four blocks.
      expect(row.reduce((a, b) => a + b, 0)).toBe(68 + 128);
      expect([...row.subarray(0, 4), ...row.subarray(1600)].every((one) => one === 1)).toBe(true);
      // Query heads of a kv head attend to the same tokens.
      expect(row).toEqual(attended.subarray((head - (head % 3)) * 1664, (head - (head % 3) + 1) * 1664));
    }
    const values = new Float32Array(Uint8Array.from(restoreLayer(runtime, coded, 1, "f32").value).buffer);
    const out = new Float32Array(9 * 64);
    cache.attend(1, queries, out);
    const expected = new Float32Array(9 * 64);
    for (let head = 0; head < 9; head++) {
      const weights = Float64Array.from(scores.subarray(head * 1664, (head + 1) * 1664), Math.exp);
      const sum = weights.reduce((a, b) => a + b, 0);
      for (const [t, weight] of weights.entries()) {
        const from = (Math.floor(head / 3) * 1664 + t) * 64;
        for (let d = 0; d < 64; d++) expected[head * 64 + d] += (weight / sum) * values[from + d];
      }
    }
    const norm = Math.hypot(...expected);
    expect(Math.hypot(...expected.map((x, i) => x - out[i])) / norm).toBeLessThan(2e-3);
  });

  it("refuse what attend refuses", async () => {
    const coded = await compress(runtime, tinyDump(CONTEXT, CONTEXT), {});
    using cache = KvCache.open(runtime, coded);
    const queries = noise(QUERY_HEADS * DIM, 4);
    expect(() => cache.scores(1, queries)).toThrow("layer: expected an integer from 0 to 0, got 1");
    expect(() => cache.scores(0, queries.subarray(1))).toThrow(
      "queries: expected a multiple of 2 x 32 elements, got 127",
    );
    expect(() => cache.scores(0, queries.fill(Number.NaN, 0, 1))).toThrow("queries: expected finite elements, got 1");
    expect(() => cache.scores(0, queries, new Float32Array(7))).toThrow("out: expected 1200 elements, got 7");
  });
});
