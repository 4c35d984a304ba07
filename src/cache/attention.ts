/**
 * Attention of one layer's queries on its tokens as they lie: exact rows by f32 dot products, coded blocks by tables on
 * planes; one softmax over all; values mixed in latent space and synthesized once a head. ARCHITECTURE.md,
 * "Life of a query".
 *
 *   slots of a query's scores   blocks attended to of each segment, 32 a block | sinks | recent
 */
import type { Anchors } from "../codec/anchors.ts";
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { ExactRows } from "./exact-rows.ts";
import { type GroupTokens, keyGroupOf } from "./group-tokens.ts";
import type { Landmarks } from "./landmarks.ts";
import { mixGroup } from "./mix.ts";
import { scoreGroup } from "./score.ts";
import { chooseBlocks } from "./selection.ts";

/** Consecutive coded tokens on one basis. Key and value groups name the same kv heads. */
export interface Segment {
  keys: GroupTokens[];
  values: GroupTokens[];
  /** A key group's, where selection goes by them; undefined before. */
  landmarks: (Landmarks | undefined)[];
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
}

/** What one call read and left out. */
export interface AttendReport {
  /** Bytes of key codes, or landmarks, read to choose blocks. */
  scannedKeyBytes: number;
  /** Bytes of key codes read to score the blocks attended to. */
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
  /** Sees the scores before the softmax. */
  inspect?: ((slots: Slots) => void) | undefined;
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

/** Where the blocks of a segment have their slots. */
export interface SegmentSlots {
  segment: Segment;
  /** First slot. */
  first: number;
  blocks: number;
  /** Rising numbers of the blocks attended to, a key group; undefined for all. */
  chosen: (number[] | undefined)[];
}

/** Slots of as many kv heads as fit are held at a time, of one at least: long contexts need no more memory for it. */
const MOST_SLOT_BYTES = 2 ** 21;

/** Outputs (queryHeads, headDim) f32 at outPtr. At least one token is held. */
export function attendLayer(call: AttendCall, outPtr: number): void {
  const { runtime, layer, shared } = call;
  const plan = planSlots(call);
  runtime.heap.f32(outPtr, layer.kvHeads * shared * layer.headDim).fill(0);
  const headBytes = 4 * shared * plan.stride;
  const heads = Math.max(1, Math.min(layer.kvHeads, Math.floor(MOST_SLOT_BYTES / headBytes)));
  for (let first = 0; first < layer.kvHeads; first += heads) {
    attendHeads(call, plan, { first, end: Math.min(layer.kvHeads, first + heads) }, outPtr);
  }
}

function attendHeads(call: AttendCall, plan: SlotPlan, heads: HeadRange, outPtr: number): void {
  const { runtime, layer, shared } = call;
  const { kernels, heap } = runtime;
  const { headDim } = layer;
  const [firstQuery, queries] = [heads.first * shared, (heads.end - heads.first) * shared];
  heap.scratch((frame) => {
    const slots = reserveSlots(call, frame, plan, heads);
    scoreLayer(call, slots);
    call.inspect?.(slots);
    const sumsPtr = frame.reserve(4 * queries);
    const inverses = Float32Array.from({ length: queries }, (_, i) => {
      const rowPtr = slots.ptr + 4 * (firstQuery + i) * slots.stride;
      return 1 / kernels.exponentials(rowPtr, rowPtr, slots.count, 1 / Math.sqrt(headDim));
    });
    heap.f32(sumsPtr, queries).set(inverses);
    for (const { rows, first } of exactParts(layer, slots)) mixExact(call, rows, slots, first, outPtr);
    // As slots: query q of the layer at 4 * q.
    const inversesPtr = sumsPtr - 4 * firstQuery;
    for (const part of slots.parts) {
      part.segment.values.forEach((group, i) => {
        mixGroup(call, group, part, part.chosen[i], slots, inversesPtr, outPtr);
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
      for (const { segment, first, blocks, chosen } of slots.parts) {
        const group = keyGroupOf(segment.keys, Math.floor(query / shared));
        for (let i = 0; i < blocks; i++) {
          const token = BLOCK_TOKENS * (chosen[group]?.[i] ?? i);
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
      scoreGroup(call, part, group, slots, part.chosen[i]);
    });
  }
}

/** Slots for the tokens that are attended to; a budget decides which blocks those are. */
function planSlots(call: AttendCall): SlotPlan {
  const { layer, settings } = call;
  const budgets = budgetsOf(layer.segments, settings.budgetTokens);
  let first = 0;
  const parts = layer.segments.map((segment, i): SegmentSlots => {
    const chosen = segment.keys.map((group, g) => chooseBlocks(call, segment, group, budgets[i], segment.landmarks[g]));
    const blocks = chosen[0]?.length ?? segment.keys[0].blocks.length;
    const part = { segment, first, blocks, chosen };
    first += blocks * BLOCK_TOKENS;
    return part;
  });
  const count = first + layer.sinks.count + layer.recent.count;
  return { stride: Math.ceil(count / 4) * 4, exactFirst: first, count, parts };
}

function reserveSlots({ shared }: AttendCall, frame: Frame, plan: SlotPlan, heads: HeadRange): Slots {
  const rowBytes = 4 * plan.stride;
  const ptr = frame.reserve(rowBytes * (heads.end - heads.first) * shared) - rowBytes * heads.first * shared;
  return { ...plan, ptr, heads };
}

/** The kv heads of a group among `heads`, counted in the layer. */
export function headsWithin({ model: { shape } }: GroupTokens, heads: HeadRange): HeadRange {
  const { firstHead, headCount } = shape;
  return { first: Math.max(firstHead, heads.first), end: Math.min(firstHead + headCount, heads.end) };
}

/** Blocks of each segment, by its part of all tokens. */
function budgetsOf(segments: Segment[], budgetTokens: number | undefined): (number | undefined)[] {
  if (budgetTokens === undefined) return [];
  const counts = segments.map((segment) => segment.keys[0].count);
  const total = counts.reduce((a, b) => a + b, 0);
  return counts.map((count) => Math.max(1, Math.ceil((budgetTokens * (count / total)) / BLOCK_TOKENS)));
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
