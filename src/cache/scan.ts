/** Scores of all coded tokens, for selection. */
import { BLOCK_TOKENS, PLANE_BYTES } from "../codec/layout.ts";
import type { AttendCall, HeadRange, Segment } from "./attention.ts";
import type { ChannelSets } from "./channel-sets.ts";
import type { GroupTokens } from "./group-tokens.ts";
import { eachQuerySet, runsOf, type ScoreRows, scanStep, scoreRuns } from "./score.ts";

/** Scores of so many blocks of four queries stay in the second cache. */
export const BLOCKS_AT_A_TIME = 256;

/** Bytes of codes that scanning a group reads, however many of its heads do. */
export const scannedBytes = ({ blocks, model }: GroupTokens, which: keyof ChannelSets): number =>
  blocks.length * (model.sets?.[which].planes ?? 0) * PLANE_BYTES;

/**
 * maxima (shared, blocks) f32 of one kv head: the best score of a block's tokens by some of the channels. The scores of
 * up to four queries from number `query` on, blocks from `from` on, go where `rowsAt` says.
 */
export function scanHead(
  call: AttendCall,
  segment: Segment,
  group: GroupTokens,
  head: number,
  which: keyof ChannelSets,
  maximaPtr: number,
  rowsAt: (query: number, from: number) => ScoreRows,
): void {
  const { runtime, layer, shared } = call;
  const { kernels, heap } = runtime;
  const blocks = group.blocks.length;
  const one: HeadRange = { first: head, end: head + 1 };
  heap.f32(maximaPtr, blocks * shared).fill(-Infinity);
  for (let from = 0; from < blocks; from += BLOCKS_AT_A_TIME) {
    const count = Math.min(BLOCKS_AT_A_TIME, blocks - from);
    const runs = runsOf(layer.anchors, from, count);
    // Free places of the last block hold anything.
    const free = Math.max(0, (from + count) * BLOCK_TOKENS - group.count);
    eachQuerySet(call, group, one, (inGroup, query, queries) => {
      const mine = query - head * shared;
      const rows = rowsAt(mine, from);
      scoreRuns(call, segment, group, inGroup, query, queries, runs, which, scanStep(call.settings), rows);
      for (let q = 0; q < queries; q++) {
        const rowPtr = rows.ptr + 4 * q * rows.stride;
        if (free > 0) heap.f32(rowPtr + 4 * (count * BLOCK_TOKENS - free), free).fill(-Infinity);
        kernels.blockMaxima(maximaPtr + 4 * ((mine + q) * blocks + from), rowPtr, count);
      }
    });
  }
}
