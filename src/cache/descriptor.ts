/** The GROUP descriptor of codec/layout.ts that the kernels of attention read. */
import { GROUP } from "../codec/layout.ts";
import type { Frame, Heap } from "../runtime/heap.ts";
import type { GroupModel } from "./group-model.ts";

/** Counts of the channels of a model, or of its leading ones. */
export function putGroup(
  heap: Heap,
  frame: Frame,
  model: GroupModel,
  queryCount: number,
  weightStride: number,
  counts = model.counts,
): number {
  const ptr = frame.reserve(GROUP.bytes);
  const { count8, count4, count2, count1 } = counts;
  heap.u32(ptr, GROUP.bytes / 4).set([
    count8, count4, count2, count1, model.levelsPtr, model.normsPtr, queryCount, weightStride,
  ]); // biome-ignore format: in the order of the layout
  return ptr;
}
