/**
 * Attention of one layer's queries on its tokens as they lie: exact rows by f32 dot products, coded blocks by tables on
 * planes; one softmax over all; values mixed in latent space and synthesized once a head. ARCHITECTURE.md,
 * "Life of a query".
 *
 *   slots of a query's scores   blocks, or chosen tokens, of each segment, by 32 | sinks | recent | a segment's rest
 */
import type { Anchors } from "../codec/anchors.ts";
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { scoreChosen } from "./chosen-tokens.ts";
import type { ExactRows } from "./exact-rows.ts";
import { type GroupTokens, keyGroupOf } from "./group-tokens.ts";
import type { Landmarks } from "./landmarks.ts";
import { mixGroup } from "./mix.ts";
import type { CacheOptions } from "./options.ts";
import { scoreGroup } from "./score.ts";
import { choose } from "./selection.ts";
import type { ValueMeans } from "./value-means.ts";

/** Consecutive coded tokens on one basis. Key and value groups name the same kv heads. */
export interface Segment {
  keys: GroupTokens[];
  values: GroupTokens[];
  /** A key group's, where selection goes by them; undefined before. */
  landmarks: (Landmarks | undefined)[];
  /** Where tokens are chosen: what stands for those left out. */
  means?: ValueMeans | undefined;
  /** Position of its first token, from which its anchor spans count. */
  position: number;
}

/** What attention reads of a layer. */
export interface LayerTokens {
  kvHeads: number;
  headDim: number;
  segments: Segment[];
  sinks: ExactRows;
  recent: ExactRows;
  anchors: Anchors;
  /** Addresses of ROTARY descriptors, for heads of the dimensions of each part of `anchors` alone. */
  rotaryPtrs: number[];
}

export interface AttendSettings {
  /** Steps of score tables, in logits: the error of a score is about that. */
  scoreStep: number;
  /** Part of a query's weight whose values may be left out, a segment and value group. */
  mixTolerance: number;
  /** Coded tokens to attend to, or undefined for all. */
  budgetTokens: number | undefined;
  selection: CacheOptions["selection"];
}

/** What one call read and left out. */
export interface AttendReport {
  /** Bytes of key codes, or landmarks, read to choose; those of chosen tokens, where each code is read once, apart. */
  scannedKeyBytes: number;
  /** Bytes of key codes read to score what is attended to. */
  scoredKeyBytes: number;
  valueBytes: number;
  exactBytes: number;
  /** Blocks whose values were mixed, of how many that had weights. */
  mixedBlocks: number;
  blocks: number;
  /**
   * Greatest weight of a query that was left out of the mix of a segment's value group: the output misses at most that
   * times the greatest value, a segment.
   */
  leftOutWeight: number;
}

export const noReport = (): AttendReport => ({
  scannedKeyBytes: 0,
  scoredKeyBytes: 0,
  valueBytes: 0,
  exactBytes: 0,
  mixedBlocks: 0,
  blocks: 0,
  leftOutWeight: 0,
});

/** One call: queries (kvHeads * shared, headDim) f32 after RoPE on a layer. */
export interface AttendCall {
  runtime: Runtime;
  layer: LayerTokens;
  queriesPtr: number;
  /** Query heads a kv head. */
  shared: number;
  settings: AttendSettings;
  report: AttendReport;
}

/** kv heads first … end - 1. */
export interface HeadRange {
  first: number;
  end: number;
}

/**
 * Scores, then weights: (queries, stride) f32 in the slots above, query q of the layer at ptr + 4 * q * stride. Only
 * those of `heads` are held.
 */
export interface Slots extends SlotPlan {
  ptr: number;
  heads: HeadRange;
}

/** What has slots, for all queries alike. */
export interface SlotPlan {
  stride: number;
  exactFirst: number;
  count: number;
  parts: SegmentSlots[];
}

/** What of a segment is attended to: all of it where there are neither chosen blocks nor tokens. */
export interface Choice {
  /** Slots, by 32. */
  slotBlocks: number;
  /** Rising numbers of blocks, a key group; none where not blocks are chosen. */
  blocks: number[][];
  /** A kv head's own tokens, where those are chosen. */
  tokens?: ChosenTokens[];
}

export interface ChosenTokens {
  /** Rising numbers in the segment. */
  numbers: Uint32Array;
  /** (shared queries, numbers), not scaled. */
  scores: Float32Array;
  /** A query: the score at its share of the budget. */
  offsets: Float32Array;
  /** A query: the sum of exp(scale * (score - offset)) of the tokens that are not chosen, from a sample of them. */
  leftOut: number[];
}

/** Where what is attended to of a segment has its slots. */
export interface SegmentSlots extends Choice {
  segment: Segment;
  /** First slot. */
  first: number;
  /** Slot of the tokens that are left out, where the others are chosen one by one. */
  restSlot?: number;
}

/** Slots of as many kv heads as fit are held at a time, of one at least: long contexts need no more memory for it. */
const MOST_SLOT_BYTES = 2 ** 21;

/** Outputs (queryHeads, headDim) f32 at outPtr. At least one token is held. */
export function attendLayer(call: AttendCall, outPtr: number): void {
  const { runtime, layer, shared } = call;
  const plan = planSlots(call);
  runtime.heap.f32(outPtr, layer.kvHeads * shared * layer.headDim).fill(0);
  for (const heads of headPasses(call, plan)) attendHeads(call, plan, heads, outPtr);
}

/** Shows the scores of all tokens, a budget or none, a few heads at a time. */
export function inspectScores(call: AttendCall, inspect: (slots: Slots) => void): void {
  const whole = { ...call, settings: { ...call.settings, budgetTokens: undefined }, report: noReport() };
  const plan = planSlots(whole);
  for (const heads of headPasses(whole, plan)) {
    call.runtime.heap.scratch((frame) => {
      const slots = reserveSlots(whole, frame, plan, heads);
      scoreLayer(whole, slots);
      inspect(slots);
    });
  }
}

/** The kv heads in turn, as many as have room for their slots. */
function headPasses({ layer, shared }: AttendCall, { stride }: SlotPlan): HeadRange[] {
  const count = Math.max(1, Math.min(layer.kvHeads, Math.floor(MOST_SLOT_BYTES / (4 * shared * stride))));
  return Array.from({ length: Math.ceil(layer.kvHeads / count) }, (_, i) => ({
    first: i * count,
    end: Math.min(layer.kvHeads, (i + 1) * count),
  }));
}

function attendHeads(call: AttendCall, plan: SlotPlan, heads: HeadRange, outPtr: number): void {
  const { runtime, layer, shared } = call;
  const { kernels, heap } = runtime;
  const { headDim } = layer;
  const [firstQuery, queries] = [heads.first * shared, (heads.end - heads.first) * shared];
  heap.scratch((frame) => {
    const slots = reserveSlots(call, frame, plan, heads);
    scoreLayer(call, slots);
    const sumsPtr = frame.reserve(4 * queries);
    const inverses = Float32Array.from({ length: queries }, (_, i) => {
      const rowPtr = slots.ptr + 4 * (firstQuery + i) * slots.stride;
      const sum = kernels.exponentials(rowPtr, rowPtr, slots.count, 1 / Math.sqrt(headDim));
      return 1 / (sum + weighRest(call, slots, firstQuery + i));
    });
    heap.f32(sumsPtr, queries).set(inverses);
    for (const { rows, first } of exactParts(layer, slots)) mixExact(call, rows, slots, first, outPtr);
    // As slots: query q of the layer at 4 * q.
    mixRest(call, slots, outPtr);
    const place = { slots, inversesPtr: sumsPtr - 4 * firstQuery, outPtr };
    for (const part of slots.parts) {
      part.segment.values.forEach((_, i) => {
        mixGroup(call, part, i, place);
      });
    }
    const toPtr = outPtr + 4 * firstQuery * headDim;
    kernels.scaleRows(toPtr, toPtr, sumsPtr, queries, headDim);
  });
}

/**
 * Scaled scores of every query by position, (queryHeads, tokens) f32, into out; -Infinity for tokens that the budget
 * leaves out.
 */
export function scoresByPosition(call: AttendCall, tokens: number, out: Float32Array): void {
  const { layer, shared, runtime } = call;
  const queryHeads = layer.kvHeads * shared;
  out.fill(-Infinity);
  runtime.heap.scratch((frame) => {
    const slots = reserveSlots(call, frame, planSlots(call), { first: 0, end: layer.kvHeads });
    scoreLayer(call, slots);
    const scores = runtime.heap.f32(slots.ptr, queryHeads * slots.stride);
    const copy = (query: number, slot: number, position: number, count: number): void => {
      const from = query * slots.stride + slot;
      out.set(scores.subarray(from, from + count), query * tokens + position);
    };
    for (let query = 0; query < queryHeads; query++) {
      copy(query, slots.exactFirst, 0, layer.sinks.count);
      copy(query, slots.exactFirst + layer.sinks.count, tokens - layer.recent.count, layer.recent.count);
      const head = Math.floor(query / shared);
      for (const { segment, first, slotBlocks, blocks, tokens } of slots.parts) {
        tokens?.[head].numbers.forEach((token, i) => {
          copy(query, first + i, segment.position + token, 1);
        });
        if (tokens) continue;
        const group = keyGroupOf(segment.keys, head);
        for (let i = 0; i < slotBlocks; i++) {
          const token = BLOCK_TOKENS * (blocks[group]?.[i] ?? i);
          const count = Math.min(BLOCK_TOKENS, segment.keys[group].count - token);
          copy(query, first + BLOCK_TOKENS * i, segment.position + token, count);
        }
      }
    }
  });
  const scale = 1 / Math.sqrt(layer.headDim);
  for (let i = 0; i < out.length; i++) out[i] *= scale;
}

/** Scores of every query in the slots, not scaled. */
export function scoreLayer(call: AttendCall, slots: Slots): void {
  const { layer, report } = call;
  for (const { rows, first } of exactParts(layer, slots)) {
    scoreExact(call, rows, slots, first);
    report.exactBytes += 8 * (slots.heads.end - slots.heads.first) * layer.headDim * rows.count;
  }
  for (const part of slots.parts) {
    part.segment.keys.forEach((group, i) => {
      if (part.tokens) scoreChosen(call, part, part.tokens, group, slots);
      else scoreGroup(call, part, group, slots, part.blocks[i]);
    });
  }
}

/** Slots for the tokens that are attended to; a budget decides which those are. */
function planSlots(call: AttendCall): SlotPlan {
  const { layer, settings } = call;
  const budgets = budgetsOf(layer.segments, settings.budgetTokens);
  let first = 0;
  const parts = layer.segments.map((segment, i): SegmentSlots => {
    const part = { segment, first, ...choose(call, segment, budgets[i]) };
    first += part.slotBlocks * BLOCK_TOKENS;
    return part;
  });
  let count = first + layer.sinks.count + layer.recent.count;
  for (const part of parts) if (part.tokens && part.segment.means?.mean) part.restSlot = count++;
  return { stride: Math.ceil(count / 4) * 4, exactFirst: first, count, parts };
}

function reserveSlots({ shared }: AttendCall, frame: Frame, plan: SlotPlan, heads: HeadRange): Slots {
  const rowBytes = 4 * plan.stride;
  const ptr = frame.reserve(rowBytes * (heads.end - heads.first) * shared) - rowBytes * heads.first * shared;
  return { ...plan, ptr, heads };
}

/** The kv heads of a group among `heads`, or all, counted in the layer. */
export function headsOf(group: GroupTokens, heads: HeadRange = { first: 0, end: Infinity }): number[] {
  const { first, end } = headsWithin(group, heads);
  return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i);
}

/** The same as a range. */
export function headsWithin({ model: { shape } }: GroupTokens, heads: HeadRange): HeadRange {
  const { firstHead, headCount } = shape;
  return { first: Math.max(firstHead, heads.first), end: Math.min(firstHead + headCount, heads.end) };
}

/** Tokens of each segment, by its part of all. */
function budgetsOf(segments: Segment[], budgetTokens: number | undefined): (number | undefined)[] {
  if (budgetTokens === undefined) return [];
  const counts = segments.map((segment) => segment.keys[0].count);
  const total = counts.reduce((a, b) => a + b, 0);
  return counts.map((count) => Math.max(1, Math.ceil(budgetTokens * (count / total))));
}

function exactParts(layer: LayerTokens, slots: Slots): { rows: ExactRows; first: number }[] {
  const parts = [
    { rows: layer.sinks, first: slots.exactFirst },
    { rows: layer.recent, first: slots.exactFirst + layer.sinks.count },
  ];
  return parts.filter(({ rows }) => rows.count > 0);
}

function scoreExact(call: AttendCall, rows: ExactRows, slots: Slots, first: number): void {
  const { kvHeads, headDim } = call.layer;
  for (let head = slots.heads.first; head < slots.heads.end; head++) {
    const scoresPtr = slots.ptr + 4 * (head * call.shared * slots.stride + first);
    const keysPtr = rows.keyPtr(0) + 4 * head * headDim;
    const queryPtr = call.queriesPtr + 4 * head * call.shared * headDim;
    call.runtime.kernels.scoreRows(
      scoresPtr, keysPtr, queryPtr, rows.count, headDim, call.shared, kvHeads * headDim, slots.stride,
    ); // biome-ignore format: in the order of the kernel
  }
}

/**
 * A rest's slot has the weight of one token at the offset: makes it that of all tokens left out, and returns by how
 * much the sum of the query's weights grows.
 */
function weighRest({ runtime, shared }: AttendCall, slots: Slots, query: number): number {
  const row = runtime.heap.f32(slots.ptr + 4 * query * slots.stride, slots.count);
  let more = 0;
  for (const { tokens, restSlot } of slots.parts) {
    if (!tokens || restSlot === undefined) continue;
    const before = row[restSlot];
    row[restSlot] *= tokens[Math.floor(query / shared)].leftOut[query % shared];
    more += row[restSlot] - before;
  }
  return more;
}

/** Adds the mean value of each segment with the weight of what was left out of it. */
function mixRest({ runtime, layer, shared }: AttendCall, slots: Slots, outPtr: number): void {
  const { kernels, heap } = runtime;
  const { kvHeads, headDim } = layer;
  for (const { segment, restSlot } of slots.parts) {
    const mean = segment.means?.mean;
    if (!mean || restSlot === undefined) continue;
    heap.scratch((frame) => {
      const meanPtr = frame.reserve(4 * kvHeads * headDim);
      heap.f32(meanPtr, kvHeads * headDim).set(mean);
      for (let head = slots.heads.first; head < slots.heads.end; head++) {
        const weightsPtr = slots.ptr + 4 * (head * shared * slots.stride + restSlot);
        const toPtr = outPtr + 4 * head * shared * headDim;
        kernels.mixRows(toPtr, meanPtr + 4 * head * headDim, weightsPtr, 1, headDim, shared, headDim, slots.stride);
      }
    });
  }
}

function mixExact(call: AttendCall, rows: ExactRows, slots: Slots, first: number, outPtr: number): void {
  const { kvHeads, headDim } = call.layer;
  for (let head = slots.heads.first; head < slots.heads.end; head++) {
    const weightsPtr = slots.ptr + 4 * (head * call.shared * slots.stride + first);
    const valuesPtr = rows.valuePtr(0) + 4 * head * headDim;
    const toPtr = outPtr + 4 * head * call.shared * headDim;
    call.runtime.kernels.mixRows(
      toPtr, valuesPtr, weightsPtr, rows.count, headDim, call.shared, kvHeads * headDim, slots.stride,
    ); // biome-ignore format: in the order of the kernel
  }
}
