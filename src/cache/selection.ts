/**
 * Token selection by blocks of 32: leading planes (or landmarks) score every token, and the blocks whose best tokens get
 * most attention are attended to (docs/adr/0013). A block is what planes are read by; a token that stands out lifts its
 * whole block.
 */
import { BLOCK_TOKENS, PLANE_BYTES, planeCount } from "../codec/layout.ts";
import { type AttendCall, headsWithin, type Segment } from "./attention.ts";
import type { GroupTokens } from "./group-tokens.ts";
import type { Landmarks } from "./landmarks.ts";
import { eachQuerySet, runsOf, scoreRuns } from "./score.ts";

/** Scores of so many blocks of four queries stay in the second cache. */
const BLOCKS_AT_A_TIME = 256;

/** Rising numbers of the `budget` blocks, and outliers, that a key group's queries attend to; undefined for all. */
export function chooseBlocks(
  call: AttendCall,
  segment: Segment,
  group: GroupTokens,
  budget: number | undefined,
  landmarks?: Landmarks,
): number[] | undefined {
  const blocks = group.blocks.length;
  if (budget === undefined || budget >= blocks) return undefined;
  return call.runtime.heap.scratch((frame) => {
    const maximaPtr = frame.reserve(4 * blocks * call.shared * group.model.shape.headCount);
    if (landmarks) landmarks.maxima(call, group, maximaPtr);
    else scanPlanes(call, segment, group, maximaPtr);
    const worth = worthOf(call, group, maximaPtr);
    const outliers = landmarks?.outliers ?? [];
    for (const outlier of outliers) worth[outlier] = Infinity;
    return greatest(worth, Math.min(blocks, budget + outliers.length));
  });
}

/** maxima (queries of the group, blocks) f32: the best score of a block's tokens by the leading channels. */
function scanPlanes(call: AttendCall, segment: Segment, group: GroupTokens, maximaPtr: number): void {
  const { runtime, layer, shared, report } = call;
  const { kernels, heap } = runtime;
  const blocks = group.blocks.length;
  const firstQuery = group.model.shape.firstHead * shared;
  heap.f32(maximaPtr, blocks * shared * group.model.shape.headCount).fill(-Infinity);
  heap.scratch((frame) => {
    const stride = Math.min(blocks, BLOCKS_AT_A_TIME) * BLOCK_TOKENS;
    const scoresPtr = frame.reserve(4 * 4 * stride);
    for (let from = 0; from < blocks; from += BLOCKS_AT_A_TIME) {
      const count = Math.min(BLOCKS_AT_A_TIME, blocks - from);
      const runs = runsOf(layer.anchors, from, count);
      eachQuerySet(call, group, headsWithin(group, { first: 0, end: layer.kvHeads }), (head, query, queries) => {
        scoreRuns(call, segment, group, head, query, queries, runs, true, { ptr: scoresPtr, stride });
        for (let q = 0; q < queries; q++) {
          // Free places of the last block hold anything.
          const free = Math.max(0, (from + count) * BLOCK_TOKENS - group.count);
          if (free > 0) heap.f32(scoresPtr + 4 * (q * stride + count * BLOCK_TOKENS - free), free).fill(-Infinity);
          const toPtr = maximaPtr + 4 * ((query - firstQuery + q) * blocks + from);
          kernels.blockMaxima(toPtr, scoresPtr + 4 * q * stride, count);
        }
      });
    }
  });
  report.scannedKeyBytes += blocks * planeCount(group.model.leading) * PLANE_BYTES;
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

/** Numbers of the `count` greatest, rising; the first of equals. */
function greatest(worth: Float32Array, count: number): number[] {
  const least = nthGreatest(worth.slice(), count);
  let equals = count;
  for (const x of worth) if (x > least) equals--;
  const chosen: number[] = [];
  for (let i = 0; i < worth.length; i++) {
    if (worth[i] > least || (worth[i] === least && equals-- > 0)) chosen.push(i);
  }
  return chosen;
}

/** The n-th greatest value, n from 1 on (Hoare's quickselect); reorders the array. */
export function nthGreatest(values: Float32Array, n: number): number {
  let [low, high] = [0, values.length - 1];
  const at = n - 1;
  while (low < high) {
    const pivot = values[(low + high) >> 1];
    let [i, j] = [low, high];
    while (i <= j) {
      while (values[i] > pivot) i++;
      while (values[j] < pivot) j--;
      if (i > j) break;
      const x = values[i];
      values[i++] = values[j];
      values[j--] = x;
    }
    if (at <= j) high = j;
    else if (at >= i) low = i;
    else break;
  }
  return values[at];
}
