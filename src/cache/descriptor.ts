/** The GROUP descriptor of codec/layout.ts that the kernels of attention read. */
import { GROUP, type WidthCounts } from "../codec/layout.ts";
import type { Frame, Heap } from "../runtime/heap.ts";

/** Counts and levels of the channels of a model, or of some of its key channels. */
export function putGroup(
  heap: Heap,
  frame: Frame,
  { counts, levelsPtr, normsPtr = 0 }: { counts: WidthCounts; levelsPtr: number; normsPtr?: number },
  queryCount: number,
  weightStride = 0,
): number {
  const ptr = frame.reserve(GROUP.bytes);
  const { count8, count4, count2, count1 } = counts;
  heap.u32(ptr, GROUP.bytes / 4).set([
    count8, count4, count2, count1, levelsPtr, normsPtr, queryCount, weightStride,
  ]); // biome-ignore format: in the order of the layout
  return ptr;
}
