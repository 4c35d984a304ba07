/** Coded keys back to rows where planes cannot be scored: spans shorter than a block, among them the paper's span of 1. */
import { turnByAnchors } from "../codec/anchors.ts";
import { BookShelf } from "../codec/codebook.ts";
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import {
  type AttendCall,
  headsWithin,
  type LayerTokens,
  type Segment,
  type SegmentSlots,
  type Slots,
} from "./attention.ts";
import type { GroupTokens } from "./group-tokens.ts";

/** Rows reconstructed at a time: their f32 fill a second cache, not more. */
const BLOCKS_AT_A_TIME = 16;

/** Scores of the given blocks, or of all, into the slots. */
export function scoreReconstructed(
  call: AttendCall,
  part: SegmentSlots,
  group: GroupTokens,
  slots: Slots,
  blocks?: number[],
): void {
  const { runtime, layer, queriesPtr, shared } = call;
  const { model } = group;
  const { headDim } = layer;
  const heads = headsWithin(group, slots.heads);
  for (let at = 0; at < part.slotBlocks; at += BLOCKS_AT_A_TIME) {
    const count = Math.min(BLOCKS_AT_A_TIME, part.slotBlocks - at);
    const mine = Array.from({ length: count }, (_, i) => blocks?.[at + i] ?? at + i);
    runtime.heap.scratch((frame) => {
      const rowsPtr = reconstructRows(runtime, frame, layer, part.segment, group, mine);
      for (let head = heads.first; head < heads.end; head++) {
        const query = head * shared;
        const scoresPtr = slots.ptr + 4 * (query * slots.stride + part.first + at * BLOCK_TOKENS);
        const [keysPtr, queryPtr] = [
          rowsPtr + 4 * (head - model.shape.firstHead) * headDim,
          queriesPtr + 4 * query * headDim,
        ];
        const rows = count * BLOCK_TOKENS;
        runtime.kernels.scoreRows(scoresPtr, keysPtr, queryPtr, rows, headDim, shared, model.dim, slots.stride);
      }
    });
  }
}

/** Address of (blocks * 32, dim) f32: keys after RoPE of the given blocks, side by side. */
export function reconstructRows(
  runtime: Runtime,
  frame: Frame,
  { anchors }: Pick<LayerTokens, "anchors">,
  { position }: Pick<Segment, "position">,
  group: GroupTokens,
  blocks: number[],
): number {
  const { kernels, heap } = runtime;
  const { model } = group;
  const { channels } = model;
  const { count8, count4, count2, count1 } = model.counts;
  const tokens = blocks.length * BLOCK_TOKENS;
  const rowsPtr = frame.reserve(4 * tokens * model.dim);
  heap.scratch((inner) => {
    const codesPtr = inner.reserve(Math.max(1, channels) * tokens);
    const latentsPtr = inner.reserve(4 * Math.max(1, channels) * tokens);
    blocks.forEach((block, i) => {
      kernels.unpackPlanes(
        codesPtr + i * BLOCK_TOKENS, group.blocks[block], count8, count4, count2, count1, 1, tokens,
      ); // biome-ignore format: in the order of the kernel
    });
    const shelf = new BookShelf(runtime, inner);
    model.shape.books.forEach((book, c) => {
      kernels.decode(latentsPtr + 4 * c * tokens, shelf.open(book), codesPtr + c * tokens, tokens, book.width);
    });
    kernels.synthesize(
      rowsPtr, latentsPtr, model.centrePtr, model.putSynthesis(inner), tokens, model.dim, channels, tokens,
    ); // biome-ignore format: in the order of the kernel
    const { headCount } = model.shape;
    const tokenOf = (row: number): number =>
      blocks[Math.floor(row / BLOCK_TOKENS)] * BLOCK_TOKENS + (row % BLOCK_TOKENS);
    turnByAnchors(runtime, anchors, { ptr: rowsPtr, count: tokens, headCount, position, tokenOf }, 1);
  });
  return rowsPtr;
}
