/**
 * Attention on chosen tokens (docs/adr/0045): the nibbles that are missing are gathered into blocks of their own, keys'
 * other planes to complete the scores, values' planes to be mixed as any blocks are.
 */
import { anchorOf } from "../codec/anchors.ts";
import { BLOCK_TOKENS, PLANE_BYTES } from "../codec/layout.ts";
import type { Frame, Heap } from "../runtime/heap.ts";
import {
  type AttendCall,
  type ChosenTokens,
  headsOf,
  type Segment,
  type SegmentSlots,
  type Slots,
} from "./attention.ts";
import type { GroupTokens } from "./group-tokens.ts";
import { type BlockRun, eachQuerySet, type ScoreRows, scoreRuns } from "./score.ts";

/** Scores of the chosen tokens of a group's heads into the slots; places behind the last become -Infinity. */
export function scoreChosen(
  call: AttendCall,
  part: SegmentSlots,
  tokens: ChosenTokens[],
  group: GroupTokens,
  slots: Slots,
): void {
  const { runtime, shared, report } = call;
  for (const head of headsOf(group, slots.heads)) {
    const { numbers, scores, tops } = tokens[head];
    const count = numbers.length;
    const rows = { ptr: slots.ptr + 4 * (head * shared * slots.stride + part.first), stride: slots.stride };
    for (let q = 0; q < shared; q++) {
      const row = runtime.heap.f32(rows.ptr + 4 * q * rows.stride, part.slotBlocks * BLOCK_TOKENS);
      row.set(scores.subarray(q * count, (q + 1) * count));
      row.fill(-Infinity, count);
      if (part.restSlot !== undefined) {
        runtime.heap.f32(slots.ptr + 4 * ((head * shared + q) * slots.stride + part.restSlot), 1)[0] = tops[q];
      }
    }
    addRest(call, part.segment, group, head, numbers, rows);
    report.scoredKeyBytes += count * (group.model.sets?.rest.planes ?? 0);
  }
}

/** Adds what the channels behind the leading ones contribute. */
function addRest(
  call: AttendCall,
  segment: Segment,
  group: GroupTokens,
  head: number,
  numbers: Uint32Array,
  to: ScoreRows,
): void {
  const { runtime, layer, shared } = call;
  const { heap } = runtime;
  const rest = group.model.sets?.rest;
  if (!rest || rest.planes === 0) return;
  const runs = runsOfTokens(numbers, layer.anchors.least);
  const { slot, count } = runs[runs.length - 1];
  const blocks = slot + count;
  heap.scratch((frame) => {
    const blockBytes = PLANE_BYTES * rest.planes;
    const gatheredPtr = frame.reserve(blockBytes * blocks);
    gather(call, frame, group, numbers, runs, gatheredPtr, rest.offset, rest.planes, 0);
    const addressesPtr = putSteps(heap, frame, gatheredPtr, blockBytes, blocks);
    const stride = blocks * BLOCK_TOKENS;
    const rows = { ptr: frame.reserve(4 * shared * stride), stride };
    eachQuerySet(call, group, { first: head, end: head + 1 }, (inGroup, query, queries) => {
      const mine = { ptr: rows.ptr + 4 * (query - head * shared) * stride, stride };
      scoreRuns(call, segment, group, inGroup, query, queries, runs, "rest", mine, addressesPtr);
    });
    for (let q = 0; q < shared; q++) {
      const sums = heap.f32(to.ptr + 4 * q * to.stride, numbers.length);
      const added = heap.f32(rows.ptr + 4 * q * stride, stride);
      for (const run of runs) {
        const first = run.slot * BLOCK_TOKENS - run.from;
        for (let i = run.from; i < run.end; i++) sums[i] += added[first + i];
      }
    }
  });
}

/** Blocks of gathered tokens of one of the shortest spans: tokens from … end - 1 of the list. */
interface TokenRun extends BlockRun {
  from: number;
  end: number;
}

function runsOfTokens(numbers: Uint32Array, least: number | null): TokenRun[] {
  const runs: TokenRun[] = [];
  let slot = 0;
  for (let from = 0; from < numbers.length; ) {
    const anchor = anchorOf(numbers[from], least);
    let end = from + 1;
    while (end < numbers.length && anchorOf(numbers[end], least) === anchor) end++;
    const count = Math.ceil((end - from) / BLOCK_TOKENS);
    runs.push({ first: Math.floor(anchor / BLOCK_TOKENS), count, slot, from, end });
    slot += count;
    from = end;
  }
  return runs;
}

/** The values of one head's chosen tokens as blocks: the address of each. */
export function gatherValues(call: AttendCall, frame: Frame, { numbers }: ChosenTokens, group: GroupTokens): number[] {
  const { blockBytes, planes } = group.model;
  const blocks = Math.ceil(numbers.length / BLOCK_TOKENS);
  const ptr = frame.reserve(blockBytes * blocks);
  const run = { slot: 0, from: 0, end: numbers.length };
  gather(call, frame, group, numbers, [run], ptr, 0, planes, BLOCK_TOKENS);
  call.report.valueBytes += numbers.length * (planes + 1);
  return Array.from({ length: blocks }, (_, i) => ptr + i * blockBytes);
}

function gather(
  { runtime: { kernels, heap } }: AttendCall,
  frame: Frame,
  group: GroupTokens,
  numbers: Uint32Array,
  runs: Pick<TokenRun, "slot" | "from" | "end">[],
  toPtr: number,
  offset: number,
  planes: number,
  codeBytes: number,
): void {
  const [blocksPtr, numbersPtr] = [group.blocks.length, numbers.length].map((n) => frame.reserve(4 * n));
  heap.u32(blocksPtr, group.blocks.length).set(group.blocks);
  heap.u32(numbersPtr, numbers.length).set(numbers);
  const outBytes = PLANE_BYTES * planes + codeBytes;
  for (const { slot, from, end } of runs) {
    const [outPtr, listPtr] = [toPtr + slot * outBytes, numbersPtr + 4 * from];
    kernels.gatherTokens(outPtr, blocksPtr, listPtr, end - from, offset, planes, codeBytes);
  }
}

/** u32 addresses of `count` things side by side. */
function putSteps(heap: Heap, frame: Frame, firstPtr: number, bytes: number, count: number): number {
  const ptr = frame.reserve(4 * count);
  const addresses = heap.u32(ptr, count);
  for (let i = 0; i < count; i++) addresses[i] = firstPtr + i * bytes;
  return ptr;
}
