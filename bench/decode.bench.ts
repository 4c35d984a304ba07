/**
 * Attention of a decoder's token in place, against f32 kernels on full keys and values. Each layer attends in turn over
 * enough layers that f32 rows do not fit the caches, as in a decoder; ratios are of times a layer and token.
 */
import { noReport } from "../src/cache/attention.ts";
import { ExactRows } from "../src/cache/exact-rows.ts";
import { GroupTokens } from "../src/cache/group-tokens.ts";
import { KvCache } from "../src/cache/kv-cache.ts";
import { DEFAULT_CACHE_OPTIONS } from "../src/cache/options.ts";
import { scoreGroup } from "../src/cache/score.ts";
import { anchorsOf, putOwnRotaries } from "../src/codec/anchors.ts";
import { rowDim } from "../src/codec/geometry.ts";
import { BLOCK_TOKENS } from "../src/codec/layout.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { type DenseRows, peerTimes } from "./attention-peers.ts";
import { type BenchRow, measure, row } from "./harness.ts";
import { type LongCache, longCache, PERIOD } from "./long-cache.ts";

const LENGTHS = process.env.SVDQ_LENGTHS?.split(",").map(Number) ?? [1024, 8192, 32768, 131072];
/** f32 bytes of all layers together: past the last cache. */
const WORKING_SET = 2 ** 26;

/** Peers hold rows outside the kernels' memory, and the plainest takes seconds beyond this. */
const MOST_PEER_TOKENS = 32768;

const SETTINGS = [
  { name: "head, span none", options: { grouping: "head", anchorSpan: null } },
  { name: "head, span 1024", options: { grouping: "head", anchorSpan: 1024 } },
  { name: "head, span 256", options: { grouping: "head", anchorSpan: 256 } },
  { name: "layer, span 256", options: { grouping: "layer", anchorSpan: 256 } },
  { name: "layer, span none", options: { grouping: "layer", anchorSpan: null } },
] as const;

export default async function (runtime: Runtime): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const wide of [false, true]) {
    for (const length of LENGTHS) {
      if (wide && length > 32768) continue;
      for (const { name, options } of SETTINGS) {
        if (wide && options.grouping === "layer") continue;
        rows.push(...(await compare(runtime, length, wide, name, options)));
      }
    }
  }
  return rows;
}

/** What `attend` is timed with. */
const CALLS = [
  { what: "attend" },
  { what: "attend, budget 1/32 of the tokens", budget: 1 / 32 },
  { what: "attend, budget 1/32 in blocks", budget: 1 / 32, selection: "blocks" },
] as const;

async function compare(
  runtime: Runtime,
  length: number,
  wide: boolean,
  name: string,
  options: (typeof SETTINGS)[number]["options"],
): Promise<BenchRow[]> {
  const tokens = Math.floor((length - 68) / 32) * 32 + 68;
  const one = await longCache(runtime, tokens, 1, wide, {
    ...options,
    keyBits: 1.25,
    valueBits: 2,
    attentionWeights: false,
  });
  const bytes = 8 * one.coded.tokenCount * rowDim(one.coded.geometry);
  const layers = Math.max(1, Math.min(16, Math.ceil(WORKING_SET / bytes)));
  const dense = denseTimes(runtime, one, layers);
  const peers = length <= MOST_PEER_TOKENS ? await peerTimes(denseRows(one, layers)) : [];
  const shape = wide ? "32/8 heads of 128" : "9/3 heads of 64";
  const found: BenchRow[] = [];
  for (const { what, ...given } of CALLS) {
    const coded = { ...one.coded, geometry: { ...one.coded.geometry, layerCount: layers } };
    coded.layers = Array.from({ length: layers }, () => one.coded.layers[0]);
    coded.layerNumbers = coded.layers.map((_, i) => i);
    const cache = KvCache.open(runtime, coded, given);
    const out = new Float32Array(one.queries[0].length);
    let turn = 0;
    const ms = measure(() => {
      cache.attend(turn % layers, one.queries[turn % one.queries.length], out);
      turn++;
    }, 400);
    const stats = cache.stats();
    const note = `${(bytes / 2 / (stats.bytes.total / layers)).toFixed(1)} times less memory than f16; mixed ${((100 * stats.attended.mixedBlocks) / stats.attended.blocks).toFixed(0)} % of blocks`;
    found.push(row("decode", `${what}, ${shape}, ${length} tokens, ${name}`, ms, "f32 kernels", dense.attend, note));
    if (what === "attend") {
      const ours = scoreTime(runtime, one, layers);
      for (const peer of peers)
        found.push(row("decode", `${what}, ${shape}, ${length} tokens, ${name}`, ms, peer.peer, peer.milliseconds));
      found.push(row("decode", `score, ${shape}, ${length} tokens, ${name}`, ours, "f32 kernel", dense.score));
    }
    cache.dispose();
  }
  return found;
}

/** Milliseconds a layer of the f32 kernels: keys loaded once for all query heads of a group. */
function denseTimes({ kernels, heap }: Runtime, one: LongCache, layers: number): { attend: number; score: number } {
  const { kvHeads, headDim } = one.coded.geometry;
  const tokens = one.coded.tokenCount;
  const shared = one.queryHeads / kvHeads;
  return heap.scratch((frame) => {
    const size = kvHeads * tokens * headDim;
    const tensors = Array.from({ length: layers }, () => [frame.reserve(4 * size), frame.reserve(4 * size)]);
    for (const [keysPtr, valuesPtr] of tensors) {
      fill(heap.f32(keysPtr, size), one.keys, kvHeads, headDim);
      fill(heap.f32(valuesPtr, size), one.values, kvHeads, headDim);
    }
    const stride = Math.ceil(tokens / 4) * 4;
    const scoresPtr = frame.reserve(4 * shared * stride);
    const [queriesPtr, outPtr] = [frame.reserve(4 * one.queries[0].length), frame.reserve(4 * one.queries[0].length)];
    let turn = 0;
    const run = (whole: boolean) => () => {
      const [keysPtr, valuesPtr] = tensors[turn % layers];
      heap.f32(queriesPtr, one.queries[0].length).set(one.queries[turn % one.queries.length]);
      turn++;
      heap.f32(outPtr, one.queries[0].length).fill(0);
      for (let head = 0; head < kvHeads; head++) {
        const offset = 4 * head * tokens * headDim;
        const at = 4 * head * shared * headDim;
        kernels.scoreRows(scoresPtr, keysPtr + offset, queriesPtr + at, tokens, headDim, shared, headDim, stride);
        if (!whole) continue;
        for (let q = 0; q < shared; q++) {
          const ptr = scoresPtr + 4 * q * stride;
          kernels.softmax(ptr, ptr, tokens, 1 / Math.sqrt(headDim));
        }
        kernels.mixRows(outPtr + at, valuesPtr + offset, scoresPtr, tokens, headDim, shared, headDim, stride);
      }
    };
    return { attend: measure(run(true), 400), score: measure(run(false), 400) };
  });
}

function denseRows(one: LongCache, layers: number): DenseRows {
  const { kvHeads, headDim } = one.coded.geometry;
  const tokens = one.coded.tokenCount;
  const shape = { kvHeads, shared: one.queryHeads / kvHeads, headDim, tokens };
  const [keys, values] = [new Float32Array(kvHeads * tokens * headDim), new Float32Array(kvHeads * tokens * headDim)];
  fill(keys, one.keys, kvHeads, headDim);
  fill(values, one.values, kvHeads, headDim);
  return { shape, layers, keys, values, queries: one.queries[0] };
}

function fill(to: Float32Array, from: Float32Array, heads: number, headDim: number): void {
  const [tokens, held] = [to.length / heads / headDim, from.length / heads / headDim];
  for (let h = 0; h < heads; h++) {
    for (let t = 0; t < tokens; t++) {
      const at = (h * held + (t % PERIOD)) * headDim;
      to.set(from.subarray(at, at + headDim), (h * tokens + t) * headDim);
    }
  }
}

/** Milliseconds a layer of scoring its coded tokens, nothing else. */
function scoreTime(runtime: Runtime, one: LongCache, layers: number): number {
  const { heap } = runtime;
  const { geometry, rotary, anchorSpan, sinks, recent, tokenCount } = one.coded;
  const { kvHeads, headDim } = geometry;
  const anchors = anchorsOf(anchorSpan, rotary, headDim);
  const codedCount = tokenCount - sinks - recent;
  const load = (): GroupTokens[] =>
    one.coded.layers[0].keys.map((group) => GroupTokens.load(runtime, group, anchors, codedCount));
  const all = Array.from({ length: layers }, load);
  const none = new ExactRows(heap, kvHeads * headDim);
  const milliseconds = heap.scratch((frame) => {
    const rotaryPtrs = putOwnRotaries(heap, frame, anchors);
    const queriesPtr = frame.reserve(4 * one.queries[0].length);
    const slotsPtr = frame.reserve(4 * one.queryHeads * codedCount);
    let turn = 0;
    return measure(() => {
      heap.f32(queriesPtr, one.queries[0].length).set(one.queries[turn % one.queries.length]);
      const keys = all[turn++ % layers];
      const segment = { keys, values: [], landmarks: [], position: sinks };
      const layer = { kvHeads, headDim, segments: [segment], sinks: none, recent: none, anchors, rotaryPtrs };
      const settings = { ...DEFAULT_CACHE_OPTIONS, budgetTokens: undefined };
      const call = { runtime, layer, queriesPtr, shared: one.queryHeads / kvHeads, settings, report: noReport() };
      const heads = { first: 0, end: kvHeads };
      const part = { segment, first: 0, slotBlocks: codedCount / BLOCK_TOKENS, blocks: [] };
      const slots = {
        ptr: slotsPtr,
        stride: codedCount,
        exactFirst: codedCount,
        count: codedCount,
        parts: [part],
        heads,
      };
      for (const group of keys) scoreGroup(call, part, group, slots);
    }, 400);
  });
  for (const keys of all) for (const group of keys) group.dispose();
  return milliseconds;
}
