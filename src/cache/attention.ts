/**
 * Attention of one layer's queries on its tokens as they lie: exact rows by f32 dot products, coded blocks by tables on
 * planes; one softmax over all; values mixed in latent space and synthesized once a head. codec.md sections 1.1 and 5.
 *
 *   slots of a query's scores   coded blocks that are attended to, 32 a block | sinks | recent
 */
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { ExactRows } from "./exact-rows.ts";
import type { GroupTokens } from "./group-tokens.ts";
import type { Landmarks } from "./landmarks.ts";
import { mixGroup } from "./mix.ts";
import { scoreGroup } from "./score.ts";
import { chooseBlocks } from "./selection.ts";

/** What attention reads of a layer. */
export interface LayerTokens {
  kvHeads: number;
  headDim: number;
  /** Key and value groups name the same kv heads. */
  keys: GroupTokens[];
  values: GroupTokens[];
  /** A key group's, where selection goes by them. */
  landmarks: Landmarks[];
  sinks: ExactRows;
  recent: ExactRows;
  /** Tokens in the coded blocks. */
  codedCount: number;
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
}

/** Scores, then weights, of every query: (queryHeads, stride) f32 in the slots above. */
export interface Slots {
  ptr: number;
  stride: number;
  /** Coded blocks that have slots. */
  blocks: number;
  exactFirst: number;
  count: number;
}

/** Outputs (queryHeads, headDim) f32 at outPtr. At least one token is held. */
export function attendLayer(call: AttendCall, outPtr: number): void {
  const { runtime, layer, shared } = call;
  const { kernels, heap } = runtime;
  const { headDim, kvHeads } = layer;
  const queryHeads = kvHeads * shared;
  heap.scratch((frame) => {
    const chosen = layer.keys.map((group, i) => chooseBlocks(call, group, layer.landmarks[i]));
    const slots = reserveSlots(call, frame, chosen[0]);
    const inversesPtr = frame.reserve(4 * queryHeads);
    scoreLayer(call, slots, chosen);
    const inverses = Float32Array.from({ length: queryHeads }, (_, q) => {
      const rowPtr = slots.ptr + 4 * q * slots.stride;
      return 1 / kernels.exponentials(rowPtr, rowPtr, slots.count, 1 / Math.sqrt(headDim));
    });
    heap.f32(inversesPtr, queryHeads).set(inverses);
    heap.f32(outPtr, queryHeads * headDim).fill(0);
    for (const { rows, first } of exactParts(layer, slots)) mixExact(call, rows, slots, first, outPtr);
    layer.values.forEach((group, i) => {
      mixGroup(call, group, chosen[i], slots, inversesPtr, outPtr);
    });
    kernels.scaleRows(outPtr, outPtr, inversesPtr, queryHeads, headDim);
  });
}

/** Scores of every query in the slots, not scaled; chosen: the blocks of each key group, or undefined for all. */
export function scoreLayer(call: AttendCall, slots: Slots, chosen: (number[] | undefined)[]): void {
  const { layer, report } = call;
  for (const { rows, first } of exactParts(layer, slots)) {
    scoreExact(call, rows, slots, first);
    report.exactBytes += 8 * layer.kvHeads * layer.headDim * rows.count;
  }
  layer.keys.forEach((group, i) => {
    scoreGroup(call, group, slots, chosen[i]);
  });
}

/** Slots for the chosen blocks of a key group, as many in every group, or for all. */
export function reserveSlots({ layer, runtime, shared }: AttendCall, frame: Frame, chosen?: number[]): Slots {
  const blocks = chosen ? chosen.length : Math.ceil(layer.codedCount / BLOCK_TOKENS);
  const exactFirst = blocks * BLOCK_TOKENS;
  const count = exactFirst + layer.sinks.count + layer.recent.count;
  const stride = Math.ceil(count / 4) * 4;
  const ptr = frame.reserve(4 * layer.kvHeads * shared * stride);
  // The padding of rows is never read, but what is written there must be a number.
  if (stride > count) runtime.heap.f32(ptr, layer.kvHeads * shared * stride).fill(0);
  return { ptr, stride, blocks, exactFirst, count };
}

function exactParts(layer: LayerTokens, slots: Slots): { rows: ExactRows; first: number }[] {
  const parts = [
    { rows: layer.sinks, first: slots.exactFirst },
    { rows: layer.recent, first: slots.exactFirst + layer.sinks.count },
  ];
  return parts.filter(({ rows }) => rows.count > 0);
}

function scoreExact(
  { runtime, layer, queriesPtr, shared }: AttendCall,
  rows: ExactRows,
  slots: Slots,
  first: number,
): void {
  const { kvHeads, headDim } = layer;
  for (let head = 0; head < kvHeads; head++) {
    const scoresPtr = slots.ptr + 4 * (head * shared * slots.stride + first);
    const keysPtr = rows.keyPtr(0) + 4 * head * headDim;
    const queryPtr = queriesPtr + 4 * head * shared * headDim;
    runtime.kernels.scoreRows(
      scoresPtr, keysPtr, queryPtr, rows.count, headDim, shared, kvHeads * headDim, slots.stride,
    ); // biome-ignore format: in the order of the kernel
  }
}

function mixExact(
  { runtime, layer, shared }: AttendCall,
  rows: ExactRows,
  slots: Slots,
  first: number,
  outPtr: number,
): void {
  const { kvHeads, headDim } = layer;
  for (let head = 0; head < kvHeads; head++) {
    const weightsPtr = slots.ptr + 4 * (head * shared * slots.stride + first);
    const valuesPtr = rows.valuePtr(0) + 4 * head * headDim;
    const toPtr = outPtr + 4 * head * shared * headDim;
    runtime.kernels.mixRows(
      toPtr, valuesPtr, weightsPtr, rows.count, headDim, shared, kvHeads * headDim, slots.stride,
    ); // biome-ignore format: in the order of the kernel
  }
}
