/**
 * The channels of a key model that are scored together: all of them; the leading ones, by which tokens are chosen; the
 * rest, which adds what is missing for the chosen tokens (docs/adr/0045).
 */
import { channelCount, PART_LEVELS, PLANE_BYTES, partCount, planeCount, type WidthCounts } from "../codec/layout.ts";

export interface ChannelSet {
  counts: WidthCounts;
  planes: number;
  /** Bytes of a block before their planes. */
  offset: number;
  /** (parts, 16) f32. */
  levelsPtr: number;
  /** A kv head: (headDim, channels + 1) f32 in the order of the anchors' parts; last the centre, zeros for the rest. */
  slicePtrs: number[];
}

export interface ChannelSets {
  all: ChannelSet;
  leading: ChannelSet;
  rest: ChannelSet;
}

/** Channels `first` … `end` - 1 of a kv head, with the centre behind them or zeros: the address of a slice. */
export type PutSlice = (head: number, first: number, end: number, withCentre: boolean) => number;

export function channelSets(counts: WidthCounts, headCount: number, levelsPtr: number, put: PutSlice): ChannelSets {
  const heads = Array.from({ length: headCount }, (_, head) => head);
  const [few, many] = [leadingCounts(counts), channelCount(counts)];
  const first = channelCount(few);
  const restCounts = less(counts, few);
  const all = {
    counts,
    planes: planeCount(counts),
    offset: 0,
    levelsPtr,
    slicePtrs: heads.map((head) => put(head, 0, many, true)),
  };
  const isAll = first === many;
  return {
    all,
    leading: isAll
      ? all
      : { ...all, counts: few, planes: planeCount(few), slicePtrs: heads.map((head) => put(head, 0, first, true)) },
    rest: {
      counts: restCounts,
      planes: planeCount(restCounts),
      offset: PLANE_BYTES * planeCount(few),
      levelsPtr: levelsPtr + 4 * PART_LEVELS * partCount(few),
      slicePtrs: isAll ? [] : heads.map((head) => put(head, first, many, false)),
    },
  };
}

/** Part of the planes that choosing reads at least: with fewer, too many of the tokens that matter are missed. */
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

const less = (a: WidthCounts, b: WidthCounts): WidthCounts => ({
  count8: a.count8 - b.count8,
  count4: a.count4 - b.count4,
  count2: a.count2 - b.count2,
  count1: a.count1 - b.count1,
});
