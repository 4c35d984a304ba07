// Scores on 4-bit planes. A table holds, for each plane, what each of its 16 nibbles adds to a query's score, as u16
// steps above the plane's least; swizzle looks up 16 tokens at a time, for up to four queries that share the planes.
// Entries are split in two bytes, the lowest bits and the rest. High bytes of all planes together stay below 256, so
// they add up in u8 lanes; low bytes add up in u8 lanes over a run of planes whose greatest low bytes stay below 256
// together, and are then widened. Where to split is chosen for the fewest operations: many planes have no high byte.
// Where that does not pay, or all entries together pass 65535, bytes are widened plane by plane, and high bytes summed
// apart. Sums are of integers, so their order is free. Layout: SCORE_SET in
// src/codec/layout.ts. Quicker ADC (Andre, Kermarrec, Le Scouarnec 2019) and faiss "fast scan" look codes up this way.

import { greatestLaneF32x4, leastLaneF32x4, multiplyAddF32x4, ROUNDING } from "./lanes";
import { BLOCK_TOKENS, PLANE_BYTES } from "./planes";

export const SET_BIAS: usize = 16;
export const SET_RUN_COUNT: usize = 32;
export const SET_WIDE_COUNT: usize = 36;
export const SET_PLANE_COUNT: usize = 40;
export const SET_QUERY_COUNT: usize = 44;
export const SET_LOW_BITS: usize = 48;
export const SET_SUMS: usize = 64;
export const SET_RUNS: usize = 320;
/** Descriptor offsets: GROUP in src/codec/layout.ts. */
export const GROUP_LEVELS: usize = 16;
export const GROUP_QUERY_COUNT: usize = 24;

/** Entries of a plane. */
const MOST_STEPS: f32 = 65280;
/** Instructions a query (counted): of a plane, of its high bytes, of a run; of a plane and its high bytes without runs. */
const PLANE_COST: i32 = 10;
const WIDE_COST: i32 = 10;
const RUN_COST: i32 = 20;
const DIRECT_COST: i32 = 16;
const DIRECT_WIDE_COST: i32 = 13;
/** A part's, or a plane's, 16 f32 levels. */
const PART_BYTES: usize = 64;

// @ts-expect-error: decorator
@inline
function roundUp16(x: i32): usize {
  return (<usize>(x + 15)) & ~15;
}

// @ts-expect-error: decorator
@inline
function setBytes(planeCount: i32, queryCount: i32): usize {
  return SET_RUNS + roundUp16(planeCount) + 2 * PLANE_BYTES * <usize>(planeCount * queryCount);
}

export function scoreTables(
  setsPtr: usize, latentsPtr: usize, groupPtr: usize, scratchPtr: usize, setCount: i32, latentStride: i32, leastStep: f32,
): void {
  const count8 = load<i32>(groupPtr);
  const count4 = load<i32>(groupPtr, 4);
  const count2 = load<i32>(groupPtr, 8);
  const count1 = load<i32>(groupPtr, 12);
  const queryCount = load<i32>(groupPtr, GROUP_QUERY_COUNT);
  const planeCount = 2 * count8 + count4 + ((count2 + 1) >> 1) + ((count1 + 3) >> 2);
  const strideBytes = (<usize>latentStride) << 2;
  const centreOffset = strideBytes * <usize>(count8 + count4 + count2 + count1);
  const queryPlaneBytes = PART_BYTES * <usize>planeCount;
  for (let set = 0; set < setCount; set++, setsPtr += setBytes(planeCount, queryCount)) {
    memory.fill(setsPtr, 0, SET_RUN_COUNT);
    for (let q = 0; q < queryCount; q++, latentsPtr += 4) {
      const levelsPtr = scratchPtr + queryPlaneBytes * <usize>q;
      sumLevels(levelsPtr, latentsPtr, groupPtr, strideBytes);
      let bias = load<f32>(latentsPtr + centreOffset);
      let range: f32 = 0;
      for (let ptr = levelsPtr; ptr < levelsPtr + queryPlaneBytes; ptr += PART_BYTES) {
        const least = leastOf(ptr);
        bias += least;
        range = max(range, greatestOf(ptr) - least);
      }
      const at = setsPtr + ((<usize>q) << 2);
      store<f32>(at, max(leastStep, range / MOST_STEPS));
      store<f32>(at, bias, SET_BIAS);
    }
    store<i32>(setsPtr, planeCount, SET_PLANE_COUNT);
    store<i32>(setsPtr, queryCount, SET_QUERY_COUNT);
    roundSet(setsPtr, scratchPtr, planeCount, queryCount);
  }
}

/** (planes, 16) f32: what each nibble of each plane adds to the score; parts added in order, from zero. */
function sumLevels(outPtr: usize, latentPtr: usize, groupPtr: usize, strideBytes: usize): void {
  let levelPtr = <usize>load<u32>(groupPtr, GROUP_LEVELS);
  for (let c = load<i32>(groupPtr); c > 0; c--, latentPtr += strideBytes, levelPtr += 2 * PART_BYTES, outPtr += 2 * PART_BYTES) {
    sumParts(outPtr, latentPtr, levelPtr, strideBytes, 1);
    sumParts(outPtr + PART_BYTES, latentPtr, levelPtr + PART_BYTES, strideBytes, 1);
  }
  for (let c = load<i32>(groupPtr, 4); c > 0; c--, latentPtr += strideBytes, levelPtr += PART_BYTES, outPtr += PART_BYTES) {
    sumParts(outPtr, latentPtr, levelPtr, strideBytes, 1);
  }
  for (let c = load<i32>(groupPtr, 8); c > 0; c -= 2, levelPtr += 2 * PART_BYTES, outPtr += PART_BYTES) {
    const used = min(2, c);
    sumParts(outPtr, latentPtr, levelPtr, strideBytes, used);
    latentPtr += strideBytes * <usize>used;
  }
  for (let c = load<i32>(groupPtr, 12); c > 0; c -= 4, levelPtr += 4 * PART_BYTES, outPtr += PART_BYTES) {
    const used = min(4, c);
    sumParts(outPtr, latentPtr, levelPtr, strideBytes, used);
    latentPtr += strideBytes * <usize>used;
  }
}

// @ts-expect-error: decorator
@inline
function sumParts(outPtr: usize, latentPtr: usize, levelPtr: usize, strideBytes: usize, parts: i32): void {
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  for (let part = 0; part < parts; part++, latentPtr += strideBytes, levelPtr += PART_BYTES) {
    const y = v128.load_splat<f32>(latentPtr);
    sum0 = multiplyAddF32x4(sum0, y, v128.load(levelPtr));
    sum1 = multiplyAddF32x4(sum1, y, v128.load(levelPtr, 16));
    sum2 = multiplyAddF32x4(sum2, y, v128.load(levelPtr, 32));
    sum3 = multiplyAddF32x4(sum3, y, v128.load(levelPtr, 48));
  }
  v128.store(outPtr, sum0);
  v128.store(outPtr, sum1, 16);
  v128.store(outPtr, sum2, 32);
  v128.store(outPtr, sum3, 48);
}

/** Entries of every plane and query, split at the cheapest bit, and the runs of planes that follow from it. */
function roundSet(setPtr: usize, levelsPtr: usize, planeCount: i32, queryCount: i32): void {
  const runsPtr = setPtr + SET_RUNS;
  const queryPlaneBytes = PART_BYTES * <usize>planeCount;
  const highOffset = PLANE_BYTES * <usize>(planeCount * queryCount);
  const lowsPtr = runsPtr + roundUp16(planeCount);
  // The greatest entry of each plane takes the place of its first level once all queries have been rounded.
  let total = 0;
  let entryPtr = lowsPtr;
  for (let plane = 0; plane < planeCount; plane++) {
    const ptr = levelsPtr + PART_BYTES * <usize>plane;
    let most = 0;
    for (let q = 0; q < queryCount; q++, entryPtr += PLANE_BYTES) {
      const scale = <f32>1 / load<f32>(setPtr + ((<usize>q) << 2));
      most = max(most, roundPlane(entryPtr, entryPtr + highOffset, ptr + queryPlaneBytes * <usize>q, scale));
    }
    store<i32>(ptr, most);
    total += most;
  }
  memory.fill(runsPtr, 0, roundUp16(planeCount));
  const wide = wideEnd(levelsPtr, planeCount);
  const split = cheapestSplit(levelsPtr, planeCount, total, wide);
  const lowBits = split < 0 ? 8 : split;
  store<i32>(setPtr, 0, SET_RUN_COUNT);
  store<i32>(setPtr, wide, SET_WIDE_COUNT);
  if (split >= 0) walkRuns(levelsPtr, planeCount, lowBits, setPtr);
  store<i32>(setPtr, lowBits, SET_LOW_BITS);
  const endPtr = lowsPtr + highOffset;
  for (let ptr = lowsPtr; ptr < endPtr; ptr += PLANE_BYTES) splitEntries(ptr, ptr + highOffset, lowBits);
}

/** Planes up to the last with an entry above 255. */
// @ts-expect-error: decorator
@inline
function wideEnd(mostsPtr: usize, planeCount: i32): i32 {
  let end = planeCount;
  while (end > 0 && load<i32>(mostsPtr + PART_BYTES * <usize>(end - 1)) < 256) end--;
  return end;
}

/** Bits of the low byte: the rest of all entries together must stay below 256. -1 where runs do not pay. */
function cheapestSplit(mostsPtr: usize, planeCount: i32, total: i32, wide: i32): i32 {
  let best = -1;
  let bestCost = DIRECT_COST * planeCount + DIRECT_WIDE_COST * wide;
  for (let bits = 8; bits >= 0 && total >> bits < 256; bits--) {
    const cost = walkRuns(mostsPtr, planeCount, bits, 0);
    if (cost < bestCost) {
      best = bits;
      bestCost = cost;
    }
  }
  return best;
}

/** What runs cost at a split; writes them, and counts of runs and of planes up to the last wide one, where setPtr is given. */
function walkRuns(mostsPtr: usize, planeCount: i32, lowBits: i32, setPtr: usize): i32 {
  const mask = (1 << lowBits) - 1;
  let runs = 0;
  let wide = 0;
  let low = 256;
  for (let plane = 0; plane < planeCount; plane++) {
    const most = load<i32>(mostsPtr + PART_BYTES * <usize>plane);
    if (most > mask) wide = plane + 1;
    low += min(most, mask);
    if (low > 255) {
      runs++;
      low = min(most, mask);
    }
    if (setPtr) {
      const runPtr = setPtr + SET_RUNS + <usize>(runs - 1);
      store<u8>(runPtr, <u8>(load<u8>(runPtr) + 1));
    }
  }
  if (setPtr) {
    store<i32>(setPtr, runs, SET_RUN_COUNT);
    store<i32>(setPtr, wide, SET_WIDE_COUNT);
  }
  return PLANE_COST * planeCount + WIDE_COST * wide + RUN_COST * runs;
}

/** 16 entries, entries 0 to 7 and 8 to 15 as u16 at two places; returns the greatest. */
// @ts-expect-error: decorator
@inline
function roundPlane(firstPtr: usize, secondPtr: usize, levelsPtr: usize, inverse: f32): i32 {
  const least = f32x4.splat(leastOf(levelsPtr));
  const scale = f32x4.splat(inverse);
  const e01 = i16x8.narrow_i32x4_u(steps(v128.load(levelsPtr), least, scale), steps(v128.load(levelsPtr, 16), least, scale));
  const e23 = i16x8.narrow_i32x4_u(steps(v128.load(levelsPtr, 32), least, scale), steps(v128.load(levelsPtr, 48), least, scale));
  v128.store(firstPtr, e01);
  v128.store(secondPtr, e23);
  let most = i16x8.max_u(e01, e23);
  most = i16x8.max_u(most, i64x2.shuffle(most, most, 1, 1));
  most = i16x8.max_u(most, i32x4.shuffle(most, most, 1, 1, 1, 1));
  return max(i16x8.extract_lane_u(most, 0), i16x8.extract_lane_u(most, 1));
}

/** u16 entries at both places to low bytes at the first and high bytes at the second. */
// @ts-expect-error: decorator
@inline
function splitEntries(lowPtr: usize, highPtr: usize, lowBits: i32): void {
  const e01 = v128.load(lowPtr);
  const e23 = v128.load(highPtr);
  const mask = i16x8.splat(<i16>(<i32>((1 << lowBits) - 1)));
  v128.store(lowPtr, i8x16.narrow_i16x8_u(v128.and(e01, mask), v128.and(e23, mask)));
  v128.store(highPtr, i8x16.narrow_i16x8_u(i16x8.shr_u(e01, lowBits), i16x8.shr_u(e23, lowBits)));
}

/** Steps above the least, nearest even. */
// @ts-expect-error: decorator
@inline
function steps(x: v128, least: v128, scale: v128): v128 {
  const shifted = f32x4.add(f32x4.mul(f32x4.sub(x, least), scale), f32x4.splat(ROUNDING));
  return v128.and(shifted, i32x4.splat(0x3fffff));
}

// @ts-expect-error: decorator
@inline
function leastOf(ptr: usize): f32 {
  const low = f32x4.pmin(v128.load(ptr), v128.load(ptr, 16));
  return leastLaneF32x4(f32x4.pmin(low, f32x4.pmin(v128.load(ptr, 32), v128.load(ptr, 48))));
}

// @ts-expect-error: decorator
@inline
function greatestOf(ptr: usize): f32 {
  const low = f32x4.pmax(v128.load(ptr), v128.load(ptr, 16));
  return greatestLaneF32x4(f32x4.pmax(low, f32x4.pmax(v128.load(ptr, 32), v128.load(ptr, 48))));
}

export function scorePlanes(
  scoresPtr: usize, blocksPtr: usize, setsPtr: usize, blockCount: i32,
  setStrideBytes: i32, blocksPerSet: i32, skippedBlocks: i32, scoreStride: i32,
): void {
  setsPtr += <usize>setStrideBytes * <usize>(skippedBlocks / blocksPerSet);
  let left = blocksPerSet - (skippedBlocks % blocksPerSet);
  const queryCount = load<i32>(setsPtr, SET_QUERY_COUNT);
  const strideBytes = (<usize>scoreStride) << 2;
  for (let block = 0; block < blockCount; block++, blocksPtr += 4, scoresPtr += 4 * BLOCK_TOKENS, left--) {
    if (left == 0) {
      setsPtr += <usize>setStrideBytes;
      left = blocksPerSet;
    }
    const planesPtr = <usize>load<u32>(blocksPtr);
    if (load<i32>(setsPtr, SET_RUN_COUNT) == 0) {
      for (let q = 0; q < queryCount; q++) scoreDirect(scoresPtr + strideBytes * <usize>q, setsPtr, planesPtr, q);
      continue;
    }
    if (queryCount == 1) sumBlock(setsPtr, planesPtr, 1);
    else if (queryCount == 2) sumBlock(setsPtr, planesPtr, 2);
    else if (queryCount == 3) sumBlock(setsPtr, planesPtr, 3);
    else sumBlock(setsPtr, planesPtr, 4);
    for (let q = 0; q < queryCount; q++) storeScores(scoresPtr + strideBytes * <usize>q, setsPtr, <usize>q);
  }
}

// Entries of a block's tokens into the u16 sums of the set: even and odd tokens of 0 to 15, then of 16 to 31.
// `queries` is a constant where this is inlined.
// @ts-expect-error: decorator
@inline
function sumBlock(setPtr: usize, planesPtr: usize, queries: i32): void {
  const planeCount = load<i32>(setPtr, SET_PLANE_COUNT);
  let runPtr = setPtr + SET_RUNS;
  const runsEndPtr = runPtr + <usize>load<i32>(setPtr, SET_RUN_COUNT);
  const lowsPtr = runPtr + roundUp16(planeCount);
  const highsPtr = lowsPtr + PLANE_BYTES * <usize>(planeCount * queries);
  const wideEndPtr = planesPtr + PLANE_BYTES * <usize>load<i32>(setPtr, SET_WIDE_COUNT);
  // High bytes first: they start the sums.
  sumPlanes(setPtr, planesPtr, wideEndPtr, highsPtr, queries, true);
  let entryPtr = lowsPtr;
  for (; runPtr < runsEndPtr; runPtr++) {
    const runBytes = PLANE_BYTES * <usize>load<u8>(runPtr);
    sumPlanes(setPtr, planesPtr, planesPtr + runBytes, entryPtr, queries, false);
    planesPtr += runBytes;
    entryPtr += runBytes * <usize>queries;
  }
}

// Bytes of the planes of one run added up in u8, then put into the sums. `queries` and `areHigh` are constants.
// @ts-expect-error: decorator
@inline
function sumPlanes(setPtr: usize, planesPtr: usize, endPtr: usize, entryPtr: usize, queries: i32, areHigh: bool): void {
  // A shift of bytes takes V8 five instructions on x64, one of pairs and a mask two.
  const nibbleMask = i8x16.splat(15);
  let a0 = i8x16.splat(0);
  let b0 = a0;
  let a1 = a0;
  let b1 = a0;
  let a2 = a0;
  let b2 = a0;
  let a3 = a0;
  let b3 = a0;
  for (; planesPtr < endPtr; planesPtr += PLANE_BYTES, entryPtr += PLANE_BYTES * <usize>queries) {
    const plane = v128.load(planesPtr);
    const a = v128.and(plane, nibbleMask);
    const b = v128.and(i16x8.shr_u(plane, 4), nibbleMask);
    const entries0 = v128.load(entryPtr);
    a0 = i8x16.add(a0, i8x16.swizzle(entries0, a));
    b0 = i8x16.add(b0, i8x16.swizzle(entries0, b));
    if (queries > 1) {
      const entries1 = v128.load(entryPtr, 16);
      a1 = i8x16.add(a1, i8x16.swizzle(entries1, a));
      b1 = i8x16.add(b1, i8x16.swizzle(entries1, b));
    }
    if (queries > 2) {
      const entries2 = v128.load(entryPtr, 32);
      a2 = i8x16.add(a2, i8x16.swizzle(entries2, a));
      b2 = i8x16.add(b2, i8x16.swizzle(entries2, b));
    }
    if (queries > 3) {
      const entries3 = v128.load(entryPtr, 48);
      a3 = i8x16.add(a3, i8x16.swizzle(entries3, a));
      b3 = i8x16.add(b3, i8x16.swizzle(entries3, b));
    }
  }
  const sumsPtr = setPtr + SET_SUMS;
  const lowBits = load<i32>(setPtr, SET_LOW_BITS);
  putSums(sumsPtr, a0, b0, lowBits, areHigh);
  if (queries > 1) putSums(sumsPtr + 64, a1, b1, lowBits, areHigh);
  if (queries > 2) putSums(sumsPtr + 128, a2, b2, lowBits, areHigh);
  if (queries > 3) putSums(sumsPtr + 192, a3, b3, lowBits, areHigh);
}

// @ts-expect-error: decorator
@inline
function putSums(ptr: usize, a: v128, b: v128, lowBits: i32, areHigh: bool): void {
  if (areHigh) startSums(ptr, a, b, lowBits);
  else addLow(ptr, a, b);
}

/**
 * Scores of a block and one query without runs. Bytes are added as pairs, and the odd ones of each pair once more alone:
 * what they put on the sums of pairs is taken off at the end.
 */
function scoreDirect(scoresPtr: usize, setPtr: usize, planesPtr: usize, q: i32): void {
  const planeCount = load<i32>(setPtr, SET_PLANE_COUNT);
  const stride = PLANE_BYTES * <usize>load<i32>(setPtr, SET_QUERY_COUNT);
  const highOffset = stride * <usize>planeCount;
  const nibbleMask = i8x16.splat(15);
  const endPtr = planesPtr + PLANE_BYTES * <usize>planeCount;
  const wideEndPtr = planesPtr + PLANE_BYTES * <usize>load<i32>(setPtr, SET_WIDE_COUNT);
  let entryPtr = setPtr + SET_RUNS + roundUp16(planeCount) + PLANE_BYTES * <usize>q;
  let pairsA = i16x8.splat(0);
  let oddA = pairsA;
  let pairsB = pairsA;
  let oddB = pairsA;
  let highPairsA = pairsA;
  let highOddA = pairsA;
  let highPairsB = pairsA;
  let highOddB = pairsA;
  for (; planesPtr < wideEndPtr; planesPtr += PLANE_BYTES, entryPtr += stride) {
    const plane = v128.load(planesPtr);
    const a = v128.and(plane, nibbleMask);
    const b = v128.and(i16x8.shr_u(plane, 4), nibbleMask);
    const low = v128.load(entryPtr);
    const lowA = i8x16.swizzle(low, a);
    pairsA = i16x8.add(pairsA, lowA);
    oddA = i16x8.add(oddA, i16x8.shr_u(lowA, 8));
    const lowB = i8x16.swizzle(low, b);
    pairsB = i16x8.add(pairsB, lowB);
    oddB = i16x8.add(oddB, i16x8.shr_u(lowB, 8));
    const high = v128.load(entryPtr + highOffset);
    const highA = i8x16.swizzle(high, a);
    highPairsA = i16x8.add(highPairsA, highA);
    highOddA = i16x8.add(highOddA, i16x8.shr_u(highA, 8));
    const highB = i8x16.swizzle(high, b);
    highPairsB = i16x8.add(highPairsB, highB);
    highOddB = i16x8.add(highOddB, i16x8.shr_u(highB, 8));
  }
  for (; planesPtr < endPtr; planesPtr += PLANE_BYTES, entryPtr += stride) {
    const plane = v128.load(planesPtr);
    const low = v128.load(entryPtr);
    const lowA = i8x16.swizzle(low, v128.and(plane, nibbleMask));
    pairsA = i16x8.add(pairsA, lowA);
    oddA = i16x8.add(oddA, i16x8.shr_u(lowA, 8));
    const lowB = i8x16.swizzle(low, v128.and(i16x8.shr_u(plane, 4), nibbleMask));
    pairsB = i16x8.add(pairsB, lowB);
    oddB = i16x8.add(oddB, i16x8.shr_u(lowB, 8));
  }
  const step = v128.load_splat<f32>(setPtr + ((<usize>q) << 2));
  const bias = v128.load_splat<f32>(setPtr + ((<usize>q) << 2), SET_BIAS);
  const evenA = i16x8.sub(pairsA, i16x8.shl(oddA, 8));
  const evenB = i16x8.sub(pairsB, i16x8.shl(oddB, 8));
  const highEvenA = i16x8.sub(highPairsA, i16x8.shl(highOddA, 8));
  const highEvenB = i16x8.sub(highPairsB, i16x8.shl(highOddB, 8));
  store8(scoresPtr, interleaved(evenA, oddA), interleaved(highEvenA, highOddA), step, bias);
  store8(scoresPtr + 32, interleavedBehind(evenA, oddA), interleavedBehind(highEvenA, highOddA), step, bias);
  store8(scoresPtr + 64, interleaved(evenB, oddB), interleaved(highEvenB, highOddB), step, bias);
  store8(scoresPtr + 96, interleavedBehind(evenB, oddB), interleavedBehind(highEvenB, highOddB), step, bias);
}

/** 8 scores of sums of low and of high bytes. */
// @ts-expect-error: decorator
@inline
function store8(ptr: usize, low: v128, high: v128, step: v128, bias: v128): void {
  const first = i32x4.add(i32x4.extend_low_i16x8_u(low), i32x4.shl(i32x4.extend_low_i16x8_u(high), 8));
  const second = i32x4.add(i32x4.extend_high_i16x8_u(low), i32x4.shl(i32x4.extend_high_i16x8_u(high), 8));
  v128.store(ptr, scaled(first, step, bias));
  v128.store(ptr, scaled(second, step, bias), 16);
}

/** u16 sums start as the high bytes in their place. */
// @ts-expect-error: decorator
@inline
function startSums(ptr: usize, a: v128, b: v128, lowBits: i32): void {
  const byteMask = i16x8.splat(255);
  v128.store(ptr, i16x8.shl(v128.and(a, byteMask), lowBits));
  v128.store(ptr, i16x8.shl(i16x8.shr_u(a, 8), lowBits), 16);
  v128.store(ptr, i16x8.shl(v128.and(b, byteMask), lowBits), 32);
  v128.store(ptr, i16x8.shl(i16x8.shr_u(b, 8), lowBits), 48);
}

// @ts-expect-error: decorator
@inline
function addLow(ptr: usize, a: v128, b: v128): void {
  const byteMask = i16x8.splat(255);
  v128.store(ptr, i16x8.add(v128.load(ptr), v128.and(a, byteMask)));
  v128.store(ptr, i16x8.add(v128.load(ptr, 16), i16x8.shr_u(a, 8)), 16);
  v128.store(ptr, i16x8.add(v128.load(ptr, 32), v128.and(b, byteMask)), 32);
  v128.store(ptr, i16x8.add(v128.load(ptr, 48), i16x8.shr_u(b, 8)), 48);
}

/** 32 scores of one query of the set from its u16 sums. */
// @ts-expect-error: decorator
@inline
function storeScores(ptr: usize, setPtr: usize, q: usize): void {
  const step = v128.load_splat<f32>(setPtr + (q << 2));
  const bias = v128.load_splat<f32>(setPtr + (q << 2), SET_BIAS);
  const sumsPtr = setPtr + SET_SUMS + (q << 6);
  store16(ptr, v128.load(sumsPtr), v128.load(sumsPtr, 16), step, bias);
  store16(ptr + 64, v128.load(sumsPtr, 32), v128.load(sumsPtr, 48), step, bias);
}

/** 16 scores of u16 sums, even and odd tokens apart. */
// @ts-expect-error: decorator
@inline
function store16(ptr: usize, even: v128, odd: v128, step: v128, bias: v128): void {
  const first = interleaved(even, odd);
  const second = interleavedBehind(even, odd);
  v128.store(ptr, scaled(i32x4.extend_low_i16x8_u(first), step, bias));
  v128.store(ptr, scaled(i32x4.extend_high_i16x8_u(first), step, bias), 16);
  v128.store(ptr, scaled(i32x4.extend_low_i16x8_u(second), step, bias), 32);
  v128.store(ptr, scaled(i32x4.extend_high_i16x8_u(second), step, bias), 48);
}

/** Tokens 0 to 7 in order. */
// @ts-expect-error: decorator
@inline
function interleaved(even: v128, odd: v128): v128 {
  return i16x8.shuffle(even, odd, 0, 8, 1, 9, 2, 10, 3, 11);
}

/** Tokens 8 to 15. */
// @ts-expect-error: decorator
@inline
function interleavedBehind(even: v128, odd: v128): v128 {
  return i16x8.shuffle(even, odd, 4, 12, 5, 13, 6, 14, 7, 15);
}

// @ts-expect-error: decorator
@inline
function scaled(sum: v128, step: v128, bias: v128): v128 {
  return f32x4.add(bias, f32x4.mul(step, f32x4.convert_i32x4_s(sum)));
}

export function blockMaxima(maximaPtr: usize, scoresPtr: usize, blockCount: i32): void {
  for (let block = 0; block < blockCount; block++, maximaPtr += 4, scoresPtr += 4 * BLOCK_TOKENS) {
    let top = v128.load(scoresPtr);
    for (let at: usize = 16; at < 128; at += 16) top = f32x4.pmax(top, v128.load(scoresPtr + at));
    store<f32>(maximaPtr, max(load<f32>(maximaPtr), greatestLaneF32x4(top)));
  }
}
