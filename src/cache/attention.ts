/**
 * Attention of one layer's queries on its tokens as they lie: exact rows by f32 dot products, coded blocks by tables on
 * planes; one softmax over all; values mixed in latent space and synthesized once a head. codec.md sections 1.1 and 5.
 *
 *   slots of a query's scores   blocks attended to of each segment, 32 a block | sinks | recent
 */
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
  anchorSpan: number | null;
  /** Address of the ROTARY descriptor. */
  rotaryPtr: number;
}

export interface AttendSettings {
  /** Steps of score tables, in logits: the error of a score is about that. */
  scoreStep: number;
  /** Part of a query's weight whose values may be left out. */
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
  /** Greatest weight of a query that was left out of the mix: the output misses at most that times the greatest value. */
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

/** Scores, then weights, of every query: (queryHeads, stride) f32 in the slots above. */
export interface Slots {
  ptr: number;
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

/** Outputs (queryHeads, headDim) f32 at outPtr. At least one token is held. */
export function attendLayer(call: AttendCall, outPtr: number): void {
  const { runtime, layer, shared } = call;
  const { kernels, heap } = runtime;
  const { headDim, kvHeads } = layer;
  const queryHeads = kvHeads * shared;
  heap.scratch((frame) => {
    const slots = reserveSlots(call, frame, true);
    scoreLayer(call, slots);
    call.inspect?.(slots);
    const inversesPtr = frame.reserve(4 * queryHeads);
    const inverses = Float32Array.from({ length: queryHeads }, (_, q) => {
      const rowPtr = slots.ptr + 4 * q * slots.stride;
      return 1 / kernels.exponentials(rowPtr, rowPtr, slots.count, 1 / Math.sqrt(headDim));
    });
    heap.f32(inversesPtr, queryHeads).set(inverses);
    heap.f32(outPtr, queryHeads * headDim).fill(0);
    for (const { rows, first } of exactParts(layer, slots)) mixExact(call, rows, slots, first, outPtr);
    for (const part of slots.parts) {
      part.segment.values.forEach((group, i) => {
        mixGroup(call, group, part, part.chosen[i], slots, inversesPtr, outPtr);
      });
    }
    kernels.scaleRows(outPtr, outPtr, inversesPtr, queryHeads, headDim);
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
    const slots = reserveSlots(call, frame, true);
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
    report.exactBytes += 8 * layer.kvHeads * layer.headDim * rows.count;
  }
  for (const part of slots.parts) {
    part.segment.keys.forEach((group, i) => {
      scoreGroup(call, part, group, slots, part.chosen[i]);
    });
  }
}

/** Slots for the tokens that are attended to; with `select` the budget decides which blocks those are. */
export function reserveSlots(call: AttendCall, frame: Frame, select: boolean): Slots {
  const { layer, shared, settings } = call;
  const budgets = select ? budgetsOf(layer.segments, settings.budgetTokens) : [];
  let first = 0;
  const parts = layer.segments.map((segment, i): SegmentSlots => {
    const chosen = segment.keys.map((group, g) => chooseBlocks(call, segment, group, budgets[i], segment.landmarks[g]));
    const blocks = chosen[0]?.length ?? segment.keys[0].blocks.length;
    const part = { segment, first, blocks, chosen };
    first += blocks * BLOCK_TOKENS;
    return part;
  });
  const count = first + layer.sinks.count + layer.recent.count;
  const stride = Math.ceil(count / 4) * 4;
  return { ptr: frame.reserve(4 * layer.kvHeads * shared * stride), stride, exactFirst: first, count, parts };
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
  for (let head = 0; head < kvHeads; head++) {
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
  for (let head = 0; head < kvHeads; head++) {
    const weightsPtr = slots.ptr + 4 * (head * call.shared * slots.stride + first);
    const valuesPtr = rows.valuePtr(0) + 4 * head * headDim;
    const toPtr = outPtr + 4 * head * call.shared * headDim;
    call.runtime.kernels.mixRows(
      toPtr, valuesPtr, weightsPtr, rows.count, headDim, call.shared, kvHeads * headDim, slots.stride,
    ); // biome-ignore format: in the order of the kernel
  }
}
