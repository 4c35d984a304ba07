/** What twins of attention on codes share: where the parts of a group lie (PARTS in codec/layout.ts), and GROUP itself. */
import { channelCount, GROUP, planeCount, type WidthCounts } from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";

/** A part that a channel uses: nibbles of `plane` name its levels. Parts of free places are in no list. */
export interface Part {
  channel: number;
  part: number;
  plane: number;
}

/** In order of parts, which is that of planes and of channels too. */
export function usedParts(counts: WidthCounts): Part[] {
  const all: Part[] = [];
  let [channel, part, plane] = [0, 0, 0];
  for (let c = 0; c < counts.count8; c++, channel++) {
    for (let nibble = 0; nibble < 2; nibble++) all.push({ channel, part: part++, plane: plane++ });
  }
  for (const [count, places] of [
    [counts.count4, 1],
    [counts.count2, 2],
    [counts.count1, 4],
  ]) {
    for (let c = 0; c < count; c++, channel++) {
      all.push({ channel, part: part + c, plane: plane + Math.floor(c / places) });
    }
    part += places * Math.ceil(count / places);
    plane += Math.ceil(count / places);
  }
  return all;
}

export function readCounts(views: Views, countsPtr: number): WidthCounts {
  const [count8, count4, count2, count1] = views.u32(countsPtr, 4);
  return { count8, count4, count2, count1 };
}

interface Group {
  counts: WidthCounts;
  planes: number;
  channels: number;
  levelsPtr: number;
  normsPtr: number;
  queryCount: number;
  weightStride: number;
}

export function readGroup(views: Views, groupPtr: number): Group {
  const counts = readCounts(views, groupPtr);
  const field = (offset: number): number => views.u32(groupPtr + offset, 1)[0];
  return {
    counts,
    planes: planeCount(counts),
    channels: channelCount(counts),
    levelsPtr: field(GROUP.levels),
    normsPtr: field(GROUP.norms),
    queryCount: field(GROUP.queryCount),
    weightStride: field(GROUP.weightStride),
  };
}

/** The nibble of `token` (0 to 31) in a plane of 16 bytes. */
export const nibbleOf = (plane: Uint8Array, token: number): number =>
  token < plane.length ? plane[token] & 15 : plane[token - plane.length] >> 4;
