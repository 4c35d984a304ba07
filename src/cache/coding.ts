/** Rows of `recent` into the blocks of a segment. */
import { type Anchors, turnByAnchors } from "../codec/anchors.ts";
import type { Geometry } from "../codec/geometry.ts";
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Rotary } from "../codec/rotary.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Segment } from "./attention.ts";
import type { ExactRows } from "./exact-rows.ts";
import type { GroupTokens } from "./group-tokens.ts";

export interface CodingPlace {
  runtime: Runtime;
  geometry: Geometry;
  rotary: Rotary;
  anchors: Anchors;
  options: { recent: number };
}

export const groupsOf = (segment: Segment): GroupTokens[] => [...segment.keys, ...segment.values];

/** Counts of tokens to code when `recent` holds `count`: what fills the last block, then whole blocks. */
export function overflowOf(segment: Segment, count: number, recent: number): number[] {
  const parts: number[] = [];
  let left = count - recent;
  let room = segment.keys[0].room;
  for (; left >= room; room = BLOCK_TOKENS) {
    parts.push(room);
    left -= room;
  }
  return parts;
}

/** A block for every group and part of an overflow; after a CapacityError none are held. */
export function reserveBlocks(segment: Segment, parts: number[]): number[][] {
  const groups = groupsOf(segment);
  const taken: number[][] = [];
  try {
    for (const _ of parts) {
      const blocks: number[] = [];
      taken.push(blocks);
      for (const group of groups) blocks.push(group.reserveBlock());
    }
  } catch (error) {
    for (const blocks of taken) giveBlocks(segment, blocks);
    throw error;
  }
  return taken;
}

/** Gives reserved blocks back. */
export function giveBlocks(segment: Segment, blocks: number[]): void {
  const groups = groupsOf(segment);
  for (const [i, ptr] of blocks.entries()) groups[i].model.giveBlock(ptr);
}

/**
 * Address of (count, dim) f32: rows of a group's heads from row `first` of `recent` on; keys rotated back by their
 * anchors, where `token` is the first row's number in its segment.
 */
export function rowsOf(
  { runtime, geometry, anchors }: CodingPlace,
  frame: Frame,
  segmentPosition: number,
  group: { firstHead: number; headCount: number },
  role: "keys" | "values",
  recent: ExactRows,
  first: number,
  count: number,
  token: number,
): number {
  const { kernels } = runtime;
  const { kvHeads, headDim } = geometry;
  const rowsPtr = frame.reserve(4 * count * group.headCount * headDim);
  const from = (role === "keys" ? recent.keyPtr(first) : recent.valuePtr(first)) + 4 * group.firstHead * headDim;
  kernels.gatherRows(rowsPtr, from, count, group.headCount, headDim, headDim, kvHeads * headDim);
  if (role === "values") return rowsPtr;
  const { headCount } = group;
  const rows = { ptr: rowsPtr, count, headCount, position: segmentPosition, tokenOf: (row: number) => token + row };
  turnByAnchors(runtime, anchors, rows, -1);
  return rowsPtr;
}
