/** Values of coded tokens: weighted sums in latent space over the blocks that count, then one synthesis a head. */
import { BLOCK_TOKENS, mixScratchBytes, mixSumBytes, roundUp } from "../codec/layout.ts";
import type { Runtime } from "../runtime/runtime.ts";
import {
  type AttendCall,
  type HeadRange,
  headsOf,
  headsWithin,
  type LayerTokens,
  noReport,
  type Segment,
  type SegmentSlots,
  type Slots,
} from "./attention.ts";
import { gatherValues } from "./chosen-tokens.ts";
import { putGroup } from "./descriptor.ts";
import type { GroupTokens } from "./group-tokens.ts";

/** Where weights and outputs lie. Inverses of the queries' sums: query q of the layer at inversesPtr + 4 * q. */
export interface MixPlace {
  slots: Slots;
  inversesPtr: number;
  outPtr: number;
}

/** Adds a segment's tokens of value group number `index` to the outputs of its queries. */
export function mixGroup(call: AttendCall, part: SegmentSlots, index: number, place: MixPlace): void {
  const group = part.segment.values[index];
  const { tokens } = part;
  if (part.slotBlocks === 0 || group.model.channels === 0) return;
  if (!tokens) {
    const blocks = part.blocks[index]?.map((block) => group.blocks[block]) ?? group.blocks;
    mixBlocks(call, group, part, headsWithin(group, place.slots.heads), blocks, place);
    return;
  }
  for (const head of headsOf(group, place.slots.heads)) {
    call.runtime.heap.scratch((frame) => {
      const blocks = gatherValues(call, frame, tokens[head], group);
      mixBlocks(call, group, part, { first: head, end: head + 1 }, blocks, place);
    });
  }
}

/** Sums (kvHeads, headDim) f32 of the values of full blocks `first` … `first + count - 1` of a segment. */
export function sumValues(
  runtime: Runtime,
  layer: LayerTokens,
  segment: Segment,
  first: number,
  count: number,
): Float32Array {
  const { kvHeads, headDim } = layer;
  const { heap } = runtime;
  const settings = { scoreStep: 0, mixTolerance: 0, budgetTokens: undefined, selection: "blocks" as const };
  const call = { runtime, layer, queriesPtr: 0, shared: 1, settings, report: noReport() };
  const part = { segment, first: 0, slotBlocks: count, blocks: [] };
  const heads = { first: 0, end: kvHeads };
  return heap.scratch((frame) => {
    const weights = count * BLOCK_TOKENS;
    const [weightsPtr, inversesPtr, outPtr] = [weights, kvHeads, kvHeads * headDim].map((n) => frame.reserve(4 * n));
    heap.f32(weightsPtr, weights).fill(1);
    heap.f32(inversesPtr, kvHeads).fill(1);
    heap.f32(outPtr, kvHeads * headDim).fill(0);
    // A stride of zero: every head has the same weights.
    const slots = { ptr: weightsPtr, heads, stride: 0, exactFirst: weights, count: weights, parts: [part] };
    for (const group of segment.values) {
      if (group.model.channels === 0) continue;
      const blocks = group.blocks.slice(first, first + count);
      mixBlocks(call, group, part, headsWithin(group, heads), blocks, { slots, inversesPtr, outPtr });
    }
    return heap.f32(outPtr, kvHeads * headDim).slice();
  });
}

/** blocks: addresses, in the order of the slots. */
function mixBlocks(
  call: AttendCall,
  group: GroupTokens,
  part: SegmentSlots,
  heads: HeadRange,
  blocks: number[],
  { slots, inversesPtr, outPtr }: MixPlace,
): void {
  const { runtime, layer, shared, settings, report } = call;
  const { model } = group;
  if (heads.first >= heads.end) return;
  const { kernels, heap } = runtime;
  const firstQuery = heads.first * shared;
  const queryCount = (heads.end - heads.first) * shared;
  const weightsPtr = slots.ptr + 4 * (firstQuery * slots.stride + part.first);
  heap.scratch((frame) => {
    const worthPtr = frame.reserve(4 * blocks.length);
    kernels.blockWeights(worthPtr, weightsPtr, inversesPtr + 4 * firstQuery, blocks.length, queryCount, slots.stride);
    const picked = slotsThatCount(call, heap.f32(worthPtr, blocks.length), settings.mixTolerance);
    // What was gathered has been counted.
    if (!part.tokens) report.valueBytes += picked.length * model.blockBytes;
    if (picked.length === 0) return;
    const listPtr = frame.reserve(8 * picked.length);
    const list = heap.u32(listPtr, 2 * picked.length);
    picked.forEach((slot, i) => {
      list[2 * i] = blocks[slot];
      list[2 * i + 1] = weightsPtr + 4 * BLOCK_TOKENS * slot;
    });
    const sumBytes = mixSumBytes(model.counts, queryCount);
    const sumsPtr = frame.reserve(sumBytes);
    const scratchPtr = frame.reserve(mixScratchBytes(queryCount));
    const groupPtr = putGroup(heap, frame, model, queryCount, slots.stride);
    heap.u8(sumsPtr, sumBytes).fill(0);
    kernels.mixPlanes(sumsPtr, listPtr, groupPtr, scratchPtr, picked.length);
    // The synthesis takes four queries at a time, so columns behind the last query are read.
    const latentStride = roundUp(queryCount, 4) + 4;
    const latentsPtr = frame.reserve(4 * model.channels * latentStride);
    kernels.foldMix(latentsPtr, sumsPtr, model.scalesPtr, groupPtr, queryCount, latentStride);
    addOutputs(runtime, layer, group, heads, latentsPtr, latentStride, outPtr + 4 * firstQuery * layer.headDim, shared);
  });
}

/** outputs (queries of the heads, headDim) += synthesis of the latents. */
function addOutputs(
  { kernels, heap }: Runtime,
  { headDim }: LayerTokens,
  { model }: GroupTokens,
  heads: HeadRange,
  latentsPtr: number,
  latentStride: number,
  outPtr: number,
  shared: number,
): void {
  const rowCount = roundUp(shared, 4);
  heap.scratch((frame) => {
    const rowsPtr = frame.reserve(4 * rowCount * headDim);
    for (let head = 0; head < heads.end - heads.first; head++) {
      const fromPtr = latentsPtr + 4 * head * shared;
      const slicePtr = model.slicePtrs[heads.first + head - model.shape.firstHead];
      kernels.synthesize(rowsPtr, fromPtr, 0, slicePtr, rowCount, headDim, model.channels, latentStride);
      const out = heap.f32(outPtr + 4 * head * shared * headDim, shared * headDim);
      const rows = heap.f32(rowsPtr, shared * headDim);
      for (let i = 0; i < out.length; i++) out[i] += rows[i];
    }
  });
}

/**
 * Rising numbers of the slots to mix: blocks of the least worth are left out as long as they sum to at most
 * `tolerance`. They are found by powers of two, so that one pass is enough.
 */
function slotsThatCount({ report }: AttendCall, worth: Float32Array, tolerance: number): number[] {
  const least = thresholdFor(worth, tolerance);
  const picked: number[] = [];
  let leftOut = 0;
  for (let slot = 0; slot < worth.length; slot++) {
    if (worth[slot] >= least) picked.push(slot);
    else leftOut += worth[slot];
  }
  report.blocks += worth.length;
  report.mixedBlocks += picked.length;
  report.leftOutWeight = Math.max(report.leftOutWeight, leftOut);
  return picked;
}

const BINS = 64;

/** The greatest 2^-bin such that all worths below it sum to at most `tolerance`. */
function thresholdFor(worth: Float32Array, tolerance: number): number {
  const bits = new Uint32Array(worth.buffer, worth.byteOffset, worth.length);
  const sums = new Float64Array(BINS + 1);
  // Bin of x: the k with 2^-k <= x < 2^(1 - k), from its exponent.
  for (let i = 0; i < worth.length; i++) sums[Math.max(0, Math.min(BINS, 127 - (bits[i] >>> 23)))] += worth[i];
  let total = 0;
  let bin = BINS;
  for (; bin > 0 && total + sums[bin] <= tolerance; bin--) total += sums[bin];
  return 2 ** -bin;
}
