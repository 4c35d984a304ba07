/**
 * The channels of a key model that are scored together: all of them, or the leading ones, by which blocks are chosen
 * (docs/adr/0045).
 */
import { channelCount, planeCount, type WidthCounts } from "../codec/layout.ts";

export interface ChannelSet {
  counts: WidthCounts;
  planes: number;
  /** (parts, 16) f32. */
  levelsPtr: number;
  /** A kv head: (headDim, channels + 1) f32 in the order of the anchors' parts; last the centre. */
  slicePtrs: number[];
}

export interface ChannelSets {
  all: ChannelSet;
  leading: ChannelSet;
}

/** The first channels of a kv head, so many of them, with the centre behind them: the address of a slice. */
export type PutSlice = (head: number, channels: number) => number;

export function channelSets(counts: WidthCounts, headCount: number, levelsPtr: number, put: PutSlice): ChannelSets {
  const setOf = (some: WidthCounts): ChannelSet => ({
    counts: some,
    planes: planeCount(some),
    levelsPtr,
    slicePtrs: Array.from({ length: headCount }, (_, head) => put(head, channelCount(some))),
  });
  const few = leadingCounts(counts);
  const all = setOf(counts);
  return { all, leading: channelCount(few) === channelCount(counts) ? all : setOf(few) };
}

/** Part of the planes that choosing blocks reads at least: with fewer, too many that matter are missed. */
const LEADING_PART = 0.6;

/** Channels of 8 and 4 bits, which hold most of the variance, and whole planes of thinner ones up to the part. */
function leadingCounts(counts: WidthCounts): WidthCounts {
  const leading = { ...counts, count2: 0, count1: 0 };
  const least = LEADING_PART * planeCount(counts);
  const isShort = (): boolean => planeCount(leading) < least;
  while (isShort() && leading.count2 < counts.count2) leading.count2 = Math.min(counts.count2, leading.count2 + 2);
  while (isShort() && leading.count1 < counts.count1) leading.count1 = Math.min(counts.count1, leading.count1 + 4);
  return leading;
}
