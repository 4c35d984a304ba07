// Weighted sums of value planes, four blocks at a time; their weights are those of the softmax times the tokens' norms.
// Channels of 8 and 4 bits: weights become i16 against the greatest; a part's 16 levels are i16 too, looked up by
// swizzle once for three or four queries; i32x4.dot_i16x8 adds products pairwise, 32 products of 8191 * 8191 a lane,
// just below 2^31. Channels of 2 and 1 bits: their planes become strips, 16 rows of bits side by side, and weights u16
// whose sum stays below 65536. A table has what the 16 choices of four tokens weigh; a row's nibble looks it up, so that
// one swizzle adds four tokens to each of 16 rows. Sums stay in latent space, an f32 vector a part or four rows, and are
// folded at the end. Layouts: GROUP, PARTS, STRIPS and value blocks in src/codec/layout.ts.

import { greatestLaneF32x4, multiplyAddF32x4, ROUNDING } from "./lanes";
import { BLOCK_TOKENS, PLANE_BYTES } from "./planes";
import { GROUP_LEVELS, GROUP_QUERY_COUNT } from "./score";

export const GROUP_NORMS: usize = 20;
export const GROUP_WEIGHT_STRIDE: usize = 28;
/** Blocks whose weights share a scale. */
export const MIX_BLOCKS: i32 = 4;
export const MIX_WEIGHT: f32 = 8191;

const MIX_TOTAL: f32 = 65471;

const PART_BYTES: usize = 32;
/** Bytes of a block's weights as i16, a query. */
const WEIGHT_BYTES: usize = 64;
/** Bytes of the four vectors of a block's strip. */
const STRIP_BYTES: usize = 64;
/** Tables of tokens 4 k to 4 k + 3 and of those 16 behind them: low bytes, high bytes, low bytes, high bytes. */
const TABLE_BYTES: usize = 64;

export function mixPlanes(
  sumsPtr: usize, blocksPtr: usize, groupPtr: usize, scratchPtr: usize, blockCount: i32,
): void {
  for (let block = 0; block < blockCount; block += MIX_BLOCKS, blocksPtr += 8 * <usize>MIX_BLOCKS) {
    mixBlocks(sumsPtr, blocksPtr, groupPtr, scratchPtr, min(MIX_BLOCKS, blockCount - block));
  }
}

/**
 * Up to MIX_BLOCKS blocks. scratch:
 *   f32 (queryCount, 4 of one value): what a step of the i16 weights is | the same of the u16 weights
 *   f32 norms (MIX_BLOCKS, 32) | f32 products (MIX_BLOCKS, 32) of one query | u16 weights (MIX_BLOCKS, 32) of one query
 *   i16 weights (MIX_BLOCKS, queryCount, 32) | tables (MIX_BLOCKS, 4, queryCount, 64) u8 | a strip (MIX_BLOCKS, 4, 16) u8
 */
function mixBlocks(sumsPtr: usize, blocksPtr: usize, groupPtr: usize, scratchPtr: usize, blockCount: i32): void {
  const levelParts = 2 * load<i32>(groupPtr) + load<i32>(groupPtr, 4);
  const thinPlanes = ((load<i32>(groupPtr, 8) + 1) >> 1) + ((load<i32>(groupPtr, 12) + 3) >> 2);
  const strips = (thinPlanes + 3) >> 2;
  const queryCount = load<i32>(groupPtr, GROUP_QUERY_COUNT);
  const queries = <usize>queryCount;
  const stripScalesPtr = scratchPtr + (queries << 4);
  const weightsPtr = stripScalesPtr + (queries << 4) + 10 * BLOCK_TOKENS * <usize>MIX_BLOCKS;
  const tablesPtr = weightsPtr + WEIGHT_BYTES * queries * <usize>MIX_BLOCKS;
  const bitsPtr = tablesPtr + 4 * TABLE_BYTES * queries * <usize>MIX_BLOCKS;
  const totalsPtr = sumsPtr + (((queries * <usize>(levelParts + 4 * strips))) << 4);
  const codesOffset = PLANE_BYTES * <usize>(levelParts + thinPlanes);
  prepareWeights(scratchPtr, totalsPtr, blocksPtr, groupPtr, weightsPtr, tablesPtr, blockCount, codesOffset);
  let partPtr = <usize>load<u32>(groupPtr, GROUP_LEVELS);
  let offset: usize = 0;
  for (let p = 0; p < levelParts; p++, offset += PLANE_BYTES, partPtr += PART_BYTES, sumsPtr += queries << 4) {
    mixPart(sumsPtr, blocksPtr, offset, partPtr, weightsPtr, scratchPtr, queryCount, blockCount);
  }
  const vectors = 4 * blockCount;
  for (let left = thinPlanes; left > 0; left -= 4, offset += 4 * PLANE_BYTES, sumsPtr += queries << 6) {
    for (let i = 0; i < blockCount; i++) {
      turnStrip(bitsPtr + STRIP_BYTES * <usize>i, <usize>load<u32>(blocksPtr + ((<usize>i) << 3)) + offset, left);
    }
    mixStrip(sumsPtr, bitsPtr, tablesPtr, stripScalesPtr, queryCount, vectors);
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
      worth = max(worth, lanesOfF32x4(sum) * load<f32>(factorsPtr + ((<usize>q) << 2)));
    }
    store<f32>(worthPtr, worth);
  }
}

function readNorms(outPtr: usize, levelsPtr: usize, codesPtr: usize): void {
  for (let i: usize = 0; i < BLOCK_TOKENS; i++) {
    store<f32>(outPtr + (i << 2), load<f32>(levelsPtr + ((<usize>load<u8>(codesPtr + i)) << 2)));
  }
}

/**
 * Weights times norms of the blocks in both roundings, for each query the vectors of what a step of them is, and the
 * tables; all weights together are added to the totals.
 */
function prepareWeights(
  scratchPtr: usize, totalsPtr: usize, blocksPtr: usize, groupPtr: usize, weightsPtr: usize, tablesPtr: usize,
  blockCount: i32, codesOffset: usize,
): void {
  const queryCount = load<i32>(groupPtr, GROUP_QUERY_COUNT);
  const queries = <usize>queryCount;
  const weightBytes = (<usize>load<u32>(groupPtr, GROUP_WEIGHT_STRIDE)) << 2;
  const levelsPtr = <usize>load<u32>(groupPtr, GROUP_NORMS);
  const normsPtr = scratchPtr + (queries << 5);
  const productsPtr = normsPtr + 4 * BLOCK_TOKENS * <usize>MIX_BLOCKS;
  const wholePtr = productsPtr + 4 * BLOCK_TOKENS * <usize>MIX_BLOCKS;
  for (let i = 0; i < blockCount; i++) {
    const codesPtr = <usize>load<u32>(blocksPtr + ((<usize>i) << 3)) + codesOffset;
    readNorms(normsPtr + 4 * BLOCK_TOKENS * <usize>i, levelsPtr, codesPtr);
  }
  for (let q: usize = 0; q < queries; q++, totalsPtr += 4) {
    let top = f32x4.splat(0);
    let sum = f32x4.splat(0);
    for (let i = 0; i < blockCount; i++) {
      const fromPtr = <usize>load<u32>(blocksPtr + ((<usize>i) << 3), 4) + weightBytes * q;
      const first: usize = 4 * BLOCK_TOKENS * <usize>i;
      for (let at: usize = 0; at < 128; at += 16) {
        const product = f32x4.mul(v128.load(fromPtr + at), v128.load(normsPtr + first + at));
        v128.store(productsPtr + first + at, product);
        top = f32x4.pmax(top, product);
        sum = f32x4.add(sum, product);
      }
    }
    const greatest = greatestLaneF32x4(top);
    const all = lanesOfF32x4(sum);
    v128.store(scratchPtr + (q << 4), f32x4.splat(greatest / MIX_WEIGHT));
    v128.store(scratchPtr + ((queries + q) << 4), f32x4.splat(all / MIX_TOTAL));
    const inverse = f32x4.splat(greatest > 0 ? MIX_WEIGHT / greatest : 0);
    for (let i = 0; i < blockCount; i++) {
      roundWeights(weightsPtr + WEIGHT_BYTES * (queries * <usize>i + q), productsPtr + 4 * BLOCK_TOKENS * <usize>i, inverse);
    }
    const steps = roundTotals(wholePtr, productsPtr, f32x4.splat(all > 0 ? MIX_TOTAL / all : 0), blockCount);
    store<f32>(totalsPtr, load<f32>(totalsPtr) + <f32>steps * (all / MIX_TOTAL));
    for (let i = 0; i < 4 * blockCount; i++) {
      const fromPtr = wholePtr + WEIGHT_BYTES * <usize>(i >> 2) + 8 * <usize>(i & 3);
      const toPtr = tablesPtr + TABLE_BYTES * (queries * <usize>i + q);
      storeTable(toPtr, fromPtr);
      storeTable(toPtr + 32, fromPtr + 32);
    }
  }
}

/** 32 products as i16 steps. */
// @ts-expect-error: decorator
@inline
function roundWeights(toPtr: usize, fromPtr: usize, inverse: v128): void {
  for (let at: usize = 0; at < 128; at += 32) {
    const low = rounded(f32x4.mul(v128.load(fromPtr + at), inverse));
    const high = rounded(f32x4.mul(v128.load(fromPtr + at, 16), inverse));
    v128.store(toPtr + (at >> 1), i16x8.narrow_i32x4_s(low, high));
  }
}

/** Products of the blocks as u16 steps; returns their sum. */
// @ts-expect-error: decorator
@inline
function roundTotals(toPtr: usize, fromPtr: usize, inverse: v128, blockCount: i32): i32 {
  let sum = i32x4.splat(0);
  const end = (<usize>blockCount) << 7;
  for (let at: usize = 0; at < end; at += 32) {
    const low = rounded(f32x4.mul(v128.load(fromPtr + at), inverse));
    const high = rounded(f32x4.mul(v128.load(fromPtr + at, 16), inverse));
    sum = i32x4.add(sum, i32x4.add(low, high));
    v128.store(toPtr + (at >> 1), i16x8.narrow_i32x4_u(low, high));
  }
  return i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1) + i32x4.extract_lane(sum, 2) + i32x4.extract_lane(sum, 3);
}

/** What each nibble of bits chooses of four u16 weights: 16 low bytes, 16 high bytes. */
// @ts-expect-error: decorator
@inline
function storeTable(toPtr: usize, weightsPtr: usize): void {
  const weights = v128.load64_splat(weightsPtr);
  const first = i8x16.swizzle(weights, i8x16(-1, -1, 0, 1, -1, -1, 0, 1, -1, -1, 0, 1, -1, -1, 0, 1));
  const second = i8x16.swizzle(weights, i8x16(-1, -1, -1, -1, 2, 3, 2, 3, -1, -1, -1, -1, 2, 3, 2, 3));
  const third = i8x16.swizzle(weights, i8x16(-1, -1, -1, -1, -1, -1, -1, -1, 4, 5, 4, 5, 4, 5, 4, 5));
  const low = i16x8.add(i16x8.add(first, second), third);
  const high = i16x8.add(low, i8x16.swizzle(weights, i8x16(6, 7, 6, 7, 6, 7, 6, 7, 6, 7, 6, 7, 6, 7, 6, 7)));
  const mask = i16x8.splat(255);
  v128.store(toPtr, i8x16.narrow_i16x8_u(v128.and(low, mask), v128.and(high, mask)));
  v128.store(toPtr, i8x16.narrow_i16x8_u(i16x8.shr_u(low, 8), i16x8.shr_u(high, 8)), 16);
}

/**
 * Up to four planes of a block as a strip: vector k has a byte a row, bits of tokens 4 k to 4 k + 3 low and of those
 * 16 behind them high.
 */
// @ts-expect-error: decorator
@inline
function turnStrip(toPtr: usize, planesPtr: usize, planes: i32): void {
  const none = i32x4.splat(0);
  const a = turnNibbles(v128.load(planesPtr));
  const b = planes > 1 ? turnNibbles(v128.load(planesPtr, 16)) : none;
  const c = planes > 2 ? turnNibbles(v128.load(planesPtr, 32)) : none;
  const d = planes > 3 ? turnNibbles(v128.load(planesPtr, 48)) : none;
  const ab01 = i32x4.shuffle(a, b, 0, 4, 1, 5);
  const ab23 = i32x4.shuffle(a, b, 2, 6, 3, 7);
  const cd01 = i32x4.shuffle(c, d, 0, 4, 1, 5);
  const cd23 = i32x4.shuffle(c, d, 2, 6, 3, 7);
  v128.store(toPtr, i64x2.shuffle(ab01, cd01, 0, 2));
  v128.store(toPtr, i64x2.shuffle(ab01, cd01, 1, 3), 16);
  v128.store(toPtr, i64x2.shuffle(ab23, cd23, 0, 2), 32);
  v128.store(toPtr, i64x2.shuffle(ab23, cd23, 1, 3), 48);
}

/** In each 32 bits, bit r of the nibbles of byte j becomes bit j of those of byte r: two exchanges of half the bits. */
// @ts-expect-error: decorator
@inline
function turnNibbles(x: v128): v128 {
  const odd = v128.and(v128.xor(i32x4.shr_u(x, 7), x), i32x4.splat(0x00aa00aa));
  x = v128.xor(x, v128.xor(odd, i32x4.shl(odd, 7)));
  const upper = v128.and(v128.xor(i32x4.shr_u(x, 14), x), i32x4.splat(0x0000cccc));
  return v128.xor(x, v128.xor(upper, i32x4.shl(upper, 14)));
}

/** One strip of all blocks, for every query, three or four at a time. */
function mixStrip(sumPtr: usize, bitsPtr: usize, tablesPtr: usize, scalesPtr: usize, queryCount: i32, vectors: i32): void {
  const stride = TABLE_BYTES * <usize>queryCount;
  const most = queryCount % 3 == 0 ? 3 : 4;
  for (let left = queryCount; left > 0; ) {
    const taken = min(left, most);
    if (taken == 4) addStrip(sumPtr, bitsPtr, tablesPtr, stride, scalesPtr, vectors, 4);
    else if (taken == 3) addStrip(sumPtr, bitsPtr, tablesPtr, stride, scalesPtr, vectors, 3);
    else if (taken == 2) addStrip(sumPtr, bitsPtr, tablesPtr, stride, scalesPtr, vectors, 2);
    else addStrip(sumPtr, bitsPtr, tablesPtr, stride, scalesPtr, vectors, 1);
    sumPtr += (<usize>taken) << 6;
    scalesPtr += (<usize>taken) << 4;
    tablesPtr += TABLE_BYTES * <usize>taken;
    left -= taken;
  }
}

// `queries` is a constant where this is inlined.
// @ts-expect-error: decorator
@inline
function addStrip(
  sumPtr: usize, bitsPtr: usize, tablesPtr: usize, stride: usize, scalesPtr: usize, vectors: i32, queries: i32,
): void {
  const nibbleMask = i8x16.splat(15);
  let low0 = i16x8.splat(0);
  let high0 = low0;
  let low1 = low0;
  let high1 = low0;
  let low2 = low0;
  let high2 = low0;
  let low3 = low0;
  let high3 = low0;
  const endPtr = bitsPtr + ((<usize>vectors) << 4);
  for (; bitsPtr < endPtr; bitsPtr += 16, tablesPtr += stride) {
    const bits = v128.load(bitsPtr);
    const a = v128.and(bits, nibbleMask);
    const b = i8x16.shr_u(bits, 4);
    low0 = i16x8.add(low0, chosenLow(tablesPtr, a, b));
    high0 = i16x8.add(high0, chosenHigh(tablesPtr, a, b));
    if (queries > 1) {
      low1 = i16x8.add(low1, chosenLow(tablesPtr + TABLE_BYTES, a, b));
      high1 = i16x8.add(high1, chosenHigh(tablesPtr + TABLE_BYTES, a, b));
    }
    if (queries > 2) {
      low2 = i16x8.add(low2, chosenLow(tablesPtr + 2 * TABLE_BYTES, a, b));
      high2 = i16x8.add(high2, chosenHigh(tablesPtr + 2 * TABLE_BYTES, a, b));
    }
    if (queries > 3) {
      low3 = i16x8.add(low3, chosenLow(tablesPtr + 3 * TABLE_BYTES, a, b));
      high3 = i16x8.add(high3, chosenHigh(tablesPtr + 3 * TABLE_BYTES, a, b));
    }
  }
  addRows(sumPtr, low0, high0, scalesPtr);
  if (queries > 1) addRows(sumPtr + 64, low1, high1, scalesPtr + 16);
  if (queries > 2) addRows(sumPtr + 128, low2, high2, scalesPtr + 32);
  if (queries > 3) addRows(sumPtr + 192, low3, high3, scalesPtr + 48);
}

/** u16 entries of rows 0 to 7, of both tables. */
// @ts-expect-error: decorator
@inline
function chosenLow(tablePtr: usize, a: v128, b: v128): v128 {
  return i16x8.add(
    interleaveLow(i8x16.swizzle(v128.load(tablePtr), a), i8x16.swizzle(v128.load(tablePtr, 16), a)),
    interleaveLow(i8x16.swizzle(v128.load(tablePtr, 32), b), i8x16.swizzle(v128.load(tablePtr, 48), b)),
  );
}

/** The same of rows 8 to 15. */
// @ts-expect-error: decorator
@inline
function chosenHigh(tablePtr: usize, a: v128, b: v128): v128 {
  return i16x8.add(
    interleaveHigh(i8x16.swizzle(v128.load(tablePtr), a), i8x16.swizzle(v128.load(tablePtr, 16), a)),
    interleaveHigh(i8x16.swizzle(v128.load(tablePtr, 32), b), i8x16.swizzle(v128.load(tablePtr, 48), b)),
  );
}

// @ts-expect-error: decorator
@inline
function interleaveLow(x: v128, y: v128): v128 {
  return i8x16.shuffle(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

// @ts-expect-error: decorator
@inline
function interleaveHigh(x: v128, y: v128): v128 {
  return i8x16.shuffle(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

/** 16 u16 sums times the scale. */
// @ts-expect-error: decorator
@inline
function addRows(sumPtr: usize, low: v128, high: v128, scalesPtr: usize): void {
  addScaled(sumPtr, i32x4.extend_low_i16x8_u(low), scalesPtr);
  addScaled(sumPtr + 16, i32x4.extend_high_i16x8_u(low), scalesPtr);
  addScaled(sumPtr + 32, i32x4.extend_low_i16x8_u(high), scalesPtr);
  addScaled(sumPtr + 48, i32x4.extend_high_i16x8_u(high), scalesPtr);
}

/** Nearest even integers from 0 to MIX_TOTAL. */
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
    const levels0 = interleaveLow(lowA, highA);
    const levels1 = interleaveHigh(lowA, highA);
    const lowB = i8x16.swizzle(low, b);
    const highB = i8x16.swizzle(high, b);
    const levels2 = interleaveLow(lowB, highB);
    const levels3 = interleaveHigh(lowB, highB);
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
  const count2 = load<i32>(countsPtr, 8);
  const count1 = load<i32>(countsPtr, 12);
  const queries = <usize>queryCount;
  const latentBytes = (<usize>latentStride) << 2;
  memory.fill(latentsPtr, 0, latentBytes * <usize>(count8 + count4 + count2 + count1));
  for (let c = 0; c < count8 + count4; c++, latentsPtr += latentBytes) {
    for (let part = c < count8 ? 2 : 1; part > 0; part--, sumsPtr += queries << 4, scalesPtr += 4) {
      const scale = load<f32>(scalesPtr);
      for (let q: usize = 0; q < queries; q++) {
        const toPtr = latentsPtr + (q << 2);
        store<f32>(toPtr, load<f32>(toPtr) + scale * lanesOfF32x4(v128.load(sumsPtr + (q << 4))));
      }
    }
  }
  const rows2 = ((count2 + 1) >> 1) << 2;
  const strips = <usize>((rows2 + (((count1 + 3) >> 2) << 2) + 15) >> 4);
  const constantsPtr = scalesPtr + (strips << 6);
  const totalsPtr = sumsPtr + ((strips * queries) << 6);
  for (let c = 0; c < count2 + count1; c++, latentsPtr += latentBytes) {
    const isTwo = c < count2;
    const row = <usize>(isTwo ? 2 * c : rows2 + c - count2);
    const constant = load<f32>(constantsPtr + ((<usize>c) << 2));
    for (let q: usize = 0; q < queries; q++) {
      let latent = constant * load<f32>(totalsPtr + (q << 2));
      latent += load<f32>(scalesPtr + (row << 2)) * load<f32>(rowPtr(sumsPtr, row, queries, q));
      if (isTwo) latent += load<f32>(scalesPtr + (row << 2), 4) * load<f32>(rowPtr(sumsPtr, row + 1, queries, q));
      store<f32>(latentsPtr + (q << 2), latent);
    }
  }
}

// @ts-expect-error: decorator
@inline
function rowPtr(stripsPtr: usize, row: usize, queries: usize, q: usize): usize {
  return stripsPtr + (((row >> 4) * queries + q) << 6) + ((row & 15) << 2);
}

/** (0 + 1) + (2 + 3). */
// @ts-expect-error: decorator
@inline
function lanesOfF32x4(x: v128): f32 {
  return f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 1) + (f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3));
}
