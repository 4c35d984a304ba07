/**
 * What a budget attends to. Token by token, where planes score every token (choose-tokens.ts); or by blocks of
 * 32, which planes are read by: leading planes or landmarks score them, and the blocks whose best tokens get most
 * attention are taken (docs/adr/0013, 0045). A token that stands out lifts its whole block then.
 */
import type { Anchors } from "../codec/anchors.ts";
import { BLOCK_TOKENS } from "../codec/layout.ts";
import { type AttendCall, type Choice, headsOf, type Segment } from "./attention.ts";
import { chooseTokens } from "./choose-tokens.ts";
import { greatest } from "./greatest.ts";
import type { GroupTokens } from "./group-tokens.ts";
import type { Landmarks } from "./landmarks.ts";
import type { CacheOptions } from "./options.ts";
import { BLOCKS_AT_A_TIME, scanHead, scannedBytes } from "./scan.ts";
import { isScoredOnPlanes } from "./score.ts";

/** What of a segment is attended to with `budget` of its tokens, or without one. */
export function choose(call: AttendCall, segment: Segment, budget: number | undefined): Choice {
  const { keys, landmarks } = segment;
  const [{ count, blocks: all }] = keys;
  if (budget === undefined || budget >= count) return { slotBlocks: all.length, blocks: [] };
  const slotBlocks = Math.ceil(budget / BLOCK_TOKENS);
  if (choosesTokens(call.settings, call.layer.anchors, segment)) {
    const tokens = keys.flatMap((group) => {
      // What is scanned of chosen tokens scores them too.
      const chosenBytes = (budget * group.model.planes) / 2;
      call.report.scoredKeyBytes += chosenBytes;
      call.report.scannedKeyBytes += scannedBytes(group, "all") - chosenBytes;
      return headsOf(group).map((head) => chooseTokens(call, segment, group, head, budget));
    });
    return { slotBlocks, blocks: [], tokens };
  }
  if (slotBlocks >= all.length) return { slotBlocks: all.length, blocks: [] };
  const blocks = keys.map((group, i) => chooseBlocks(call, segment, group, slotBlocks, landmarks[i]));
  return { slotBlocks: blocks[0].length, blocks };
}

/** Tokens are chosen where planes can be scored; blocks elsewhere. */
export const choosesTokens = (
  { selection }: Pick<CacheOptions, "selection">,
  anchors: Anchors,
  { keys }: Segment,
): boolean => selection === "tokens" && keys.every((group) => isScoredOnPlanes(anchors, group));

/** Rising numbers of the `budget` blocks, and outliers, that a key group's queries attend to. */
function chooseBlocks(
  call: AttendCall,
  segment: Segment,
  group: GroupTokens,
  budget: number,
  landmarks?: Landmarks,
): number[] {
  const blocks = group.blocks.length;
  return call.runtime.heap.scratch((frame) => {
    const maximaPtr = frame.reserve(4 * blocks * call.shared * group.model.shape.headCount);
    if (landmarks) landmarks.maxima(call, group, maximaPtr);
    else scanBlocks(call, segment, group, maximaPtr);
    const worth = worthOf(call, group, maximaPtr);
    const outliers = landmarks?.outliers ?? [];
    for (const outlier of outliers) worth[outlier] = Infinity;
    return Array.from(greatest(worth, Math.min(blocks, budget + outliers.length)));
  });
}

/** maxima (queries of the group, blocks) f32: the best score of a block's tokens by the leading channels. */
function scanBlocks(call: AttendCall, segment: Segment, group: GroupTokens, maximaPtr: number): void {
  const { runtime, shared, report } = call;
  const blocks = group.blocks.length;
  runtime.heap.scratch((frame) => {
    const stride = Math.min(blocks, BLOCKS_AT_A_TIME) * BLOCK_TOKENS;
    const rows = { ptr: frame.reserve(4 * 4 * stride), stride };
    headsOf(group).forEach((head, i) => {
      const ptr = maximaPtr + 4 * i * shared * blocks;
      scanHead(call, segment, group, head, "leading", ptr, () => rows);
    });
  });
  report.scannedKeyBytes += scannedBytes(group, "leading");
}

/**
 * What a block is worth: the attention that its best token gets among the best tokens of all blocks, summed over the
 * queries. Measured on real caches, that keeps more of the attention than the best score of any query.
 */
function worthOf({ runtime, layer, shared }: AttendCall, group: GroupTokens, maximaPtr: number): Float32Array {
  const { kernels, heap } = runtime;
  const blocks = group.blocks.length;
  const worth = new Float32Array(blocks);
  for (let q = 0; q < shared * group.model.shape.headCount; q++) {
    const rowPtr = maximaPtr + 4 * q * blocks;
    kernels.softmax(rowPtr, rowPtr, blocks, 1 / Math.sqrt(layer.headDim));
    const weights = heap.f32(rowPtr, blocks);
    for (let i = 0; i < blocks; i++) worth[i] += weights[i];
  }
  return worth;
}
