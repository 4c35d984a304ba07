/** Scores of a group's coded tokens: tables on planes where spans hold whole blocks, reconstructed rows where not. */
import { type Anchors, anchorOf } from "../codec/anchors.ts";
import {
  BLOCK_TOKENS,
  channelCount,
  MOST_SET_PLANES,
  MOST_SET_QUERIES,
  PLANE_BYTES,
  roundUp,
  scoreScratchBytes,
  scoreSetBytes,
} from "../codec/layout.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import {
  type AttendCall,
  type HeadRange,
  headsWithin,
  type Segment,
  type SegmentSlots,
  type Slots,
} from "./attention.ts";
import type { ChannelSets } from "./channel-sets.ts";
import { putGroup } from "./descriptor.ts";
import type { GroupTokens } from "./group-tokens.ts";
import { latentQueries } from "./latent-queries.ts";
import { scoreReconstructed } from "./reconstruct.ts";

/** Spans whose tables are made at a time: bounds the scratch, and keeps tables in the second cache. */
const SPANS_AT_A_TIME = 32;

/** Steps of the tables that are chosen by are so many of `scoreStep`, up to a logit's hundredth: fewer steps fit bytes. */
const SCAN_STEPS = 20;
const MOST_SCAN_STEP = 0.01;

/** Consecutive blocks in one span: their numbers in the group, and the slot of the first in a row of scores. */
export interface BlockRun {
  first: number;
  count: number;
  slot: number;
}

/** Where scores go: (queries, stride) f32, the first query's first slot at ptr. */
export interface ScoreRows {
  ptr: number;
  stride: number;
}

/** Spans so short that a block holds several cannot be scored on planes. */
export const isInPlace = ({ least }: Pick<Anchors, "least">): boolean => least === null || least >= BLOCK_TOKENS;

/** Neither can more planes than a set of tables has room for. */
export const isScoredOnPlanes = (anchors: Anchors, { model }: GroupTokens): boolean =>
  isInPlace(anchors) && model.planes <= MOST_SET_PLANES;

/** Scores of `blocks` (rising numbers, or all) into a segment's slots; places behind the last token become -Infinity. */
export function scoreGroup(
  call: AttendCall,
  part: SegmentSlots,
  group: GroupTokens,
  slots: Slots,
  blocks?: number[],
): void {
  if (part.slotBlocks === 0) return;
  const { layer, shared, report } = call;
  const heads = headsWithin(group, slots.heads);
  if (heads.first >= heads.end) return;
  const rowPtr = (query: number): number => slots.ptr + 4 * (query * slots.stride + part.first);
  if (isScoredOnPlanes(layer.anchors, group)) {
    const runs = runsOf(layer.anchors, 0, part.slotBlocks, blocks);
    eachQuerySet(call, group, heads, (head, query, count) => {
      const rows = { ptr: rowPtr(query), stride: slots.stride };
      scoreRuns(call, part.segment, group, head, query, count, runs, "all", call.settings.scoreStep, rows);
    });
  } else {
    scoreReconstructed(call, part, group, slots, blocks);
  }
  // Planes count once, however many passes over heads there are.
  if (heads.first === group.model.shape.firstHead)
    report.scoredKeyBytes += part.slotBlocks * group.model.planes * PLANE_BYTES;
  const used = group.count % BLOCK_TOKENS;
  const hasLast = !blocks || blocks[blocks.length - 1] === group.blocks.length - 1;
  if (used === 0 || !hasLast) return;
  for (let q = heads.first * shared; q < heads.end * shared; q++) {
    const free = BLOCK_TOKENS - used;
    call.runtime.heap.f32(rowPtr(q) + 4 * (part.slotBlocks * BLOCK_TOKENS - free), free).fill(-Infinity);
  }
}

/** Calls `work` for up to four queries of a kv head at a time: head in the group, first query of the layer, count. */
export function eachQuerySet(
  { shared }: AttendCall,
  { model }: GroupTokens,
  heads: HeadRange,
  work: (head: number, query: number, count: number) => void,
): void {
  for (let head = heads.first; head < heads.end; head++) {
    for (let q = 0; q < shared; q += MOST_SET_QUERIES) {
      work(head - model.shape.firstHead, head * shared + q, Math.min(MOST_SET_QUERIES, shared - q));
    }
  }
}

/** Runs of blocks from + 0 … from + count - 1, or of those listed, none across the border of two of the shortest spans. */
export function runsOf({ least }: Anchors, from: number, count: number, blocks?: number[]): BlockRun[] {
  const spanBlocks = least === null ? Infinity : least / BLOCK_TOKENS;
  const runs: BlockRun[] = [];
  for (let slot = 0; slot < count; slot++) {
    const block = blocks ? blocks[slot] : from + slot;
    const last = runs[runs.length - 1];
    if (last && last.first + last.count === block && block % spanBlocks !== 0) last.count++;
    else runs.push({ first: block, count: 1, slot });
  }
  return runs;
}

/** Step of scores to choose by. */
export const scanStep = ({ scoreStep }: AttendCall["settings"]): number =>
  Math.max(scoreStep, Math.min(SCAN_STEPS * scoreStep, MOST_SCAN_STEP));

/** Scores of up to four queries of one kv head on runs of blocks, by some of the channels, in steps of so many logits. */
export function scoreRuns(
  call: AttendCall,
  segment: Segment,
  group: GroupTokens,
  head: number,
  query: number,
  count: number,
  runs: BlockRun[],
  which: keyof ChannelSets,
  step: number,
  rows: ScoreRows,
): void {
  const { runtime, layer, queriesPtr } = call;
  const { kernels, heap } = runtime;
  const { model } = group;
  const { headDim, anchors } = layer;
  const set = (model.sets as ChannelSets)[which];
  const { planes } = set;
  const channels = channelCount(set.counts);
  const slicePtr = set.slicePtrs[head];
  const setBytes = scoreSetBytes(planes, count);
  const leastStep = step * Math.sqrt(headDim);
  heap.scratch((frame) => {
    const sets = Math.min(SPANS_AT_A_TIME, runs.length);
    const rowCount = roundUp(sets * count, 4);
    const latentsPtr = frame.reserve(4 * (channels + 1) * rowCount);
    const setsPtr = frame.reserve(setBytes * sets);
    const scratchPtr = frame.reserve(scoreScratchBytes(planes, count));
    const groupPtr = putGroup(heap, frame, set, count);
    const addressesPtr = putAddresses(runtime, frame, group, runs);
    let block = 0;
    for (let at = 0; at < runs.length; ) {
      const spans = spansFrom(runs, at, sets, anchors);
      latentQueries(
        call, segment, slicePtr, queriesPtr + 4 * query * headDim, count, spans.anchors, latentsPtr, channels + 1, rowCount,
      ); // biome-ignore format: one call
      kernels.scoreTables(setsPtr, latentsPtr, groupPtr, scratchPtr, spans.anchors.length, rowCount, leastStep);
      for (; at < spans.end; at++) {
        const run = runs[at];
        const setPtr = setsPtr + setBytes * spans.setOf[at - spans.start];
        kernels.scorePlanes(
          rows.ptr + 4 * run.slot * BLOCK_TOKENS, addressesPtr + 4 * block, setPtr, run.count,
          setBytes, run.count + 1, 0, rows.stride,
        ); // biome-ignore format: in the order of the kernel
        block += run.count;
      }
    }
  });
}

interface Spans {
  start: number;
  end: number;
  /** First token of each of the shortest spans, counted in the segment. */
  anchors: number[];
  /** Number in `anchors` of each run from `start` on. */
  setOf: number[];
}

/** As many runs from `start` on as `most` spans hold; runs in the same span share a set. */
function spansFrom(runs: BlockRun[], start: number, most: number, { least }: Anchors): Spans {
  const spans: Spans = { start, end: start, anchors: [], setOf: [] };
  for (; spans.end < runs.length; spans.end++) {
    const token = runs[spans.end].first * BLOCK_TOKENS;
    const anchor = anchorOf(token, least);
    if (spans.anchors[spans.anchors.length - 1] !== anchor) {
      if (spans.anchors.length === most) break;
      spans.anchors.push(anchor);
    }
    spans.setOf.push(spans.anchors.length - 1);
  }
  return spans;
}

/** Addresses of the blocks of all runs, one after the other: u32 each. */
function putAddresses({ heap }: Runtime, frame: Frame, group: GroupTokens, runs: BlockRun[]): number {
  const count = runs.reduce((sum, run) => sum + run.count, 0);
  const ptr = frame.reserve(4 * count);
  const addresses = heap.u32(ptr, count);
  let at = 0;
  for (const { first, count: length } of runs) {
    for (let block = first; block < first + length; block++) addresses[at++] = group.blocks[block];
  }
  return ptr;
}
