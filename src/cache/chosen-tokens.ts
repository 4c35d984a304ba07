/**
 * Attention on chosen tokens (docs/adr/0045): their scores are those that they were chosen by; the nibbles of their values
 * are gathered into blocks of their own, to be mixed as any blocks are.
 */
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Frame } from "../runtime/heap.ts";
import { type AttendCall, type ChosenTokens, headsOf, type SegmentSlots, type Slots } from "./attention.ts";
import type { GroupTokens } from "./group-tokens.ts";

/** Scores of the chosen tokens of a group's heads into the slots; places behind the last become -Infinity. */
export function scoreChosen(
  { runtime: { heap }, shared }: AttendCall,
  part: SegmentSlots,
  tokens: ChosenTokens[],
  group: GroupTokens,
  slots: Slots,
): void {
  for (const head of headsOf(group, slots.heads)) {
    const { numbers, scores, offsets } = tokens[head];
    const count = numbers.length;
    for (let q = 0; q < shared; q++) {
      const rowPtr = slots.ptr + 4 * (head * shared + q) * slots.stride;
      const row = heap.f32(rowPtr + 4 * part.first, part.slotBlocks * BLOCK_TOKENS);
      row.set(scores.subarray(q * count, (q + 1) * count));
      row.fill(-Infinity, count);
      if (part.restSlot !== undefined) heap.f32(rowPtr + 4 * part.restSlot, 1)[0] = offsets[q];
    }
  }
}

/** The values of one head's chosen tokens as blocks: the address of each. */
export function gatherValues(
  { runtime: { kernels, heap }, report }: AttendCall,
  frame: Frame,
  { numbers }: ChosenTokens,
  group: GroupTokens,
): number[] {
  const { blockBytes, planes } = group.model;
  const blocks = Math.ceil(numbers.length / BLOCK_TOKENS);
  const ptr = frame.reserve(blockBytes * blocks);
  const [blocksPtr, numbersPtr] = [group.blocks.length, numbers.length].map((n) => frame.reserve(4 * n));
  heap.u32(blocksPtr, group.blocks.length).set(group.blocks);
  heap.u32(numbersPtr, numbers.length).set(numbers);
  kernels.gatherTokens(ptr, blocksPtr, numbersPtr, numbers.length, planes, BLOCK_TOKENS);
  report.valueBytes += numbers.length * (planes + 1);
  return Array.from({ length: blocks }, (_, i) => ptr + i * blockBytes);
}
