// Weighted sums of value planes, four blocks at a time. Their weights (times the tokens' norms) become i16 against the
// greatest; a part's 16 levels are i16 too, looked up by swizzle once for three or four queries; i32x4.dot_i16x8 adds
// products pairwise, 32 products of 8191 * 8191 a lane, just below 2^31. Sums stay in latent space: one f32 vector a
// part and query, four lanes each, folded at the end. Layouts: GROUP, PARTS and value blocks in src/codec/layout.ts.

import { greatestLaneF32x4, multiplyAddF32x4, ROUNDING } from "./lanes";
import { BLOCK_TOKENS, PLANE_BYTES } from "./planes";
import { GROUP_LEVELS, GROUP_QUERY_COUNT } from "./score";

export const GROUP_NORMS: usize = 20;
export const GROUP_WEIGHT_STRIDE: usize = 28;
/** Blocks whose weights share a scale. */
export const MIX_BLOCKS: i32 = 4;
export const MIX_WEIGHT: f32 = 8191;

const PART_BYTES: usize = 32;
/** Bytes of a block's weights as i16, a query. */
const WEIGHT_BYTES: usize = 64;

export function mixPlanes(
  sumsPtr: usize, blocksPtr: usize, groupPtr: usize, scratchPtr: usize, blockCount: i32,
): void {
  for (let block = 0; block < blockCount; block += MIX_BLOCKS, blocksPtr += 8 * <usize>MIX_BLOCKS) {
    mixBlocks(sumsPtr, blocksPtr, groupPtr, scratchPtr, min(MIX_BLOCKS, blockCount - block));
  }
}

/**
 * Up to MIX_BLOCKS blocks, their weights against one greatest.
 * scratch: f32 scales (queryCount, 4 of one value) | f32 norms (MIX_BLOCKS, 32) | i16 weights (MIX_BLOCKS, queryCount, 32)
 */
function mixBlocks(sumsPtr: usize, blocksPtr: usize, groupPtr: usize, scratchPtr: usize, blockCount: i32): void {
  const planes4 = 2 * load<i32>(groupPtr) + load<i32>(groupPtr, 4);
  const count2 = load<i32>(groupPtr, 8);
  const count1 = load<i32>(groupPtr, 12);
  let partPtr = <usize>load<u32>(groupPtr, GROUP_LEVELS);
  const queryCount = load<i32>(groupPtr, GROUP_QUERY_COUNT);
  const planes2 = (count2 + 1) >> 1;
  const planes1 = (count1 + 3) >> 2;
  const sumStride = (<usize>queryCount) << 4;
  const scalesPtr = scratchPtr;
  const weightsPtr = scratchPtr + sumStride + 4 * BLOCK_TOKENS * <usize>MIX_BLOCKS;
  prepareWeights(weightsPtr, blocksPtr, groupPtr, scratchPtr, blockCount, PLANE_BYTES * <usize>(planes4 + planes2 + planes1));
  let offset: usize = 0;
  for (let p = 0; p < planes4; p++, offset += PLANE_BYTES, partPtr += PART_BYTES, sumsPtr += sumStride) {
    mixPart(sumsPtr, blocksPtr, offset, partPtr, weightsPtr, scalesPtr, queryCount, blockCount);
  }
  for (let p = 0; p < planes2; p++, offset += PLANE_BYTES) {
    for (let part = 0; part < 2; part++, partPtr += PART_BYTES, sumsPtr += sumStride) {
      if (2 * p + part < count2) mixPart(sumsPtr, blocksPtr, offset, partPtr, weightsPtr, scalesPtr, queryCount, blockCount);
    }
  }
  for (let p = 0; p < planes1; p++, offset += PLANE_BYTES) {
    for (let part = 0; part < 4; part++, partPtr += PART_BYTES, sumsPtr += sumStride) {
      if (4 * p + part < count1) mixPart(sumsPtr, blocksPtr, offset, partPtr, weightsPtr, scalesPtr, queryCount, blockCount);
    }
  }
}

/** Sum of the 32 weights of each block times the query's factor, the greatest over queries: what a block is worth. */
export function blockWeights(
  worthPtr: usize, weightsPtr: usize, factorsPtr: usize, blockCount: i32, queryCount: i32, weightStride: i32,
): void {
  for (let block = 0; block < blockCount; block++, worthPtr += 4, weightsPtr += 4 * BLOCK_TOKENS) {
    let worth: f32 = 0;
    for (let q = 0; q < queryCount; q++) {
      const ptr = weightsPtr + (((<usize>q) * <usize>weightStride) << 2);
      let sum = v128.load(ptr);
      for (let at: usize = 16; at < 128; at += 16) sum = f32x4.add(sum, v128.load(ptr + at));
      const low = f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1);
      const high = f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3);
      worth = max(worth, (low + high) * load<f32>(factorsPtr + ((<usize>q) << 2)));
    }
    store<f32>(worthPtr, worth);
  }
}

function readNorms(outPtr: usize, levelsPtr: usize, codesPtr: usize): void {
  for (let i: usize = 0; i < BLOCK_TOKENS; i++) {
    store<f32>(outPtr + (i << 2), load<f32>(levelsPtr + ((<usize>load<u8>(codesPtr + i)) << 2)));
  }
}

/** i16 weights times norms of the blocks, and for each query the vector of what a step of them is. */
function prepareWeights(
  outPtr: usize, blocksPtr: usize, groupPtr: usize, scratchPtr: usize, blockCount: i32, codesOffset: usize,
): void {
  const queryCount = load<i32>(groupPtr, GROUP_QUERY_COUNT);
  const weightBytes = (<usize>load<u32>(groupPtr, GROUP_WEIGHT_STRIDE)) << 2;
  const levelsPtr = <usize>load<u32>(groupPtr, GROUP_NORMS);
  const normsPtr = scratchPtr + ((<usize>queryCount) << 4);
  for (let i = 0; i < blockCount; i++) {
    const codesPtr = <usize>load<u32>(blocksPtr + ((<usize>i) << 3)) + codesOffset;
    readNorms(normsPtr + 4 * BLOCK_TOKENS * <usize>i, levelsPtr, codesPtr);
  }
  for (let q = 0; q < queryCount; q++, outPtr += WEIGHT_BYTES) {
    let top = f32x4.splat(0);
    for (let i = 0; i < blockCount; i++) {
      const fromPtr = <usize>load<u32>(blocksPtr + ((<usize>i) << 3), 4) + weightBytes * <usize>q;
      const blockNormsPtr = normsPtr + 4 * BLOCK_TOKENS * <usize>i;
      for (let at: usize = 0; at < 128; at += 16) {
        top = f32x4.pmax(top, f32x4.mul(v128.load(fromPtr + at), v128.load(blockNormsPtr + at)));
      }
    }
    const greatest = greatestLaneF32x4(top);
    const inverse = f32x4.splat(greatest > 0 ? MIX_WEIGHT / greatest : 0);
    for (let i = 0; i < blockCount; i++) {
      const fromPtr = <usize>load<u32>(blocksPtr + ((<usize>i) << 3), 4) + weightBytes * <usize>q;
      const blockNormsPtr = normsPtr + 4 * BLOCK_TOKENS * <usize>i;
      const toPtr = outPtr + WEIGHT_BYTES * <usize>(queryCount * i);
      for (let at: usize = 0; at < 128; at += 32) {
        const low = f32x4.mul(f32x4.mul(v128.load(fromPtr + at), v128.load(blockNormsPtr + at)), inverse);
        const high = f32x4.mul(f32x4.mul(v128.load(fromPtr + at, 16), v128.load(blockNormsPtr + at, 16)), inverse);
        v128.store(toPtr + (at >> 1), i16x8.narrow_i32x4_s(rounded(low), rounded(high)));
      }
    }
    v128.store(scratchPtr + ((<usize>q) << 4), f32x4.splat(greatest / MIX_WEIGHT));
  }
}

/** Nearest even integers from 0 to MIX_WEIGHT. */
// @ts-expect-error: decorator
@inline
function rounded(x: v128): v128 {
  return v128.and(f32x4.add(x, f32x4.splat(ROUNDING)), i32x4.splat(0x3fffff));
}

/** One part of all blocks, for every query: levels are looked up once for three or four queries. */
function mixPart(
  sumPtr: usize, blocksPtr: usize, offset: usize, partPtr: usize, weightsPtr: usize, scalesPtr: usize, queryCount: i32, blockCount: i32,
): void {
  const blockStride = WEIGHT_BYTES * <usize>queryCount;
  const most = queryCount % 3 == 0 ? 3 : 4;
  for (let left = queryCount; left > 0; ) {
    const taken = min(left, most);
    if (taken == 4) mixQueries(sumPtr, blocksPtr, offset, partPtr, weightsPtr, blockStride, scalesPtr, blockCount, 4);
    else if (taken == 3) mixQueries(sumPtr, blocksPtr, offset, partPtr, weightsPtr, blockStride, scalesPtr, blockCount, 3);
    else if (taken == 2) mixQueries(sumPtr, blocksPtr, offset, partPtr, weightsPtr, blockStride, scalesPtr, blockCount, 2);
    else mixQueries(sumPtr, blocksPtr, offset, partPtr, weightsPtr, blockStride, scalesPtr, blockCount, 1);
    sumPtr += (<usize>taken) << 4;
    scalesPtr += (<usize>taken) << 4;
    weightsPtr += WEIGHT_BYTES * <usize>taken;
    left -= taken;
  }
}

// `queries` is a constant where this is inlined.
// @ts-expect-error: decorator
@inline
function mixQueries(
  sumPtr: usize, blocksPtr: usize, offset: usize, partPtr: usize, weightsPtr: usize, blockStride: usize, scalesPtr: usize,
  blockCount: i32, queries: i32,
): void {
  const low = v128.load(partPtr);
  const high = v128.load(partPtr, 16);
  let sum0 = i32x4.splat(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  const endPtr = blocksPtr + ((<usize>blockCount) << 3);
  for (; blocksPtr < endPtr; blocksPtr += 8, weightsPtr += blockStride) {
    const plane = v128.load(<usize>load<u32>(blocksPtr) + offset);
    const a = v128.and(plane, i8x16.splat(15));
    const b = i8x16.shr_u(plane, 4);
    const lowA = i8x16.swizzle(low, a);
    const highA = i8x16.swizzle(high, a);
    const levels0 = i8x16.shuffle(lowA, highA, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const levels1 = i8x16.shuffle(lowA, highA, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    const lowB = i8x16.swizzle(low, b);
    const highB = i8x16.swizzle(high, b);
    const levels2 = i8x16.shuffle(lowB, highB, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const levels3 = i8x16.shuffle(lowB, highB, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    sum0 = i32x4.add(sum0, dots(levels0, levels1, levels2, levels3, weightsPtr));
    if (queries > 1) sum1 = i32x4.add(sum1, dots(levels0, levels1, levels2, levels3, weightsPtr + WEIGHT_BYTES));
    if (queries > 2) sum2 = i32x4.add(sum2, dots(levels0, levels1, levels2, levels3, weightsPtr + 2 * WEIGHT_BYTES));
    if (queries > 3) sum3 = i32x4.add(sum3, dots(levels0, levels1, levels2, levels3, weightsPtr + 3 * WEIGHT_BYTES));
  }
  addScaled(sumPtr, sum0, scalesPtr);
  if (queries > 1) addScaled(sumPtr + 16, sum1, scalesPtr + 16);
  if (queries > 2) addScaled(sumPtr + 32, sum2, scalesPtr + 32);
  if (queries > 3) addScaled(sumPtr + 48, sum3, scalesPtr + 48);
}

// @ts-expect-error: decorator
@inline
function dots(levels0: v128, levels1: v128, levels2: v128, levels3: v128, weightsPtr: usize): v128 {
  const first = i32x4.add(i32x4.dot_i16x8_s(levels0, v128.load(weightsPtr)), i32x4.dot_i16x8_s(levels1, v128.load(weightsPtr, 16)));
  const second = i32x4.add(i32x4.dot_i16x8_s(levels2, v128.load(weightsPtr, 32)), i32x4.dot_i16x8_s(levels3, v128.load(weightsPtr, 48)));
  return i32x4.add(first, second);
}

// @ts-expect-error: decorator
@inline
function addScaled(sumPtr: usize, sum: v128, scalePtr: usize): void {
  v128.store(sumPtr, multiplyAddF32x4(v128.load(sumPtr), f32x4.convert_i32x4_s(sum), v128.load(scalePtr)));
}

export function foldMix(
  latentsPtr: usize, sumsPtr: usize, scalesPtr: usize, countsPtr: usize, queryCount: i32, latentStride: i32,
): void {
  const count8 = load<i32>(countsPtr);
  const count4 = load<i32>(countsPtr, 4);
  const channels = count8 + count4 + load<i32>(countsPtr, 8) + load<i32>(countsPtr, 12);
  const sumStride = (<usize>queryCount) << 4;
  for (let channel = 0; channel < channels; channel++) {
    const parts = channel < count8 ? 2 : 1;
    for (let q = 0; q < latentStride; q++, latentsPtr += 4) {
      let sum: f32 = 0;
      if (q < queryCount) {
        for (let part = 0; part < parts; part++) {
          sum += load<f32>(scalesPtr + ((<usize>part) << 2)) * lanesOf(sumsPtr + sumStride * <usize>part + ((<usize>q) << 4));
        }
      }
      store<f32>(latentsPtr, sum);
    }
    sumsPtr += sumStride * <usize>parts;
    scalesPtr += 4 * <usize>parts;
    // A plane of 2-bit channels that is not full has a free part behind its last channel.
    if (channel + 1 == channels - load<i32>(countsPtr, 12) && load<i32>(countsPtr, 8) & 1) {
      sumsPtr += sumStride;
      scalesPtr += 4;
    }
  }
}

// @ts-expect-error: decorator
@inline
function lanesOf(ptr: usize): f32 {
  return load<f32>(ptr) + load<f32>(ptr, 4) + (load<f32>(ptr, 8) + load<f32>(ptr, 12));
}
