// The tokens that stand out, for selection: of the standings of all tokens the greatest, found by comparisons alone.

import { greatestLaneF32x4 } from "./lanes";
import { BLOCK_TOKENS } from "./planes";

/** Tokens whose greatest standing is kept. */
const EIGHT: i32 = 8;

export function standings(
  outPtr: usize, maximaPtr: usize, scoresPtr: usize, offsetsPtr: usize, groupCount: i32, queryCount: i32, scoreStride: i32,
): void {
  const strideBytes = (<usize>scoreStride) << 2;
  for (; groupCount > 0; groupCount--, outPtr += 32, maximaPtr += 4, scoresPtr += 32) {
    const first = v128.load_splat<f32>(offsetsPtr);
    let low = f32x4.sub(v128.load(scoresPtr), first);
    let high = f32x4.sub(v128.load(scoresPtr, 16), first);
    for (let q: usize = 1; q < <usize>queryCount; q++) {
      const ptr = scoresPtr + strideBytes * q;
      const offset = v128.load_splat<f32>(offsetsPtr + (q << 2));
      low = f32x4.pmax(low, f32x4.sub(v128.load(ptr), offset));
      high = f32x4.pmax(high, f32x4.sub(v128.load(ptr, 16), offset));
    }
    v128.store(outPtr, low);
    v128.store(outPtr, high, 16);
    store<f32>(maximaPtr, greatestLaneF32x4(f32x4.pmax(low, high)));
  }
}

export function chooseTokens(
  numbersPtr: usize, standingsPtr: usize, maximaPtr: usize, scratchPtr: usize, count: i32, wanted: i32,
): f32 {
  const likely = likelyLeast(standingsPtr, scratchPtr, count, wanted);
  let candidates = gatherCandidates(numbersPtr, standingsPtr, maximaPtr, scratchPtr, count, likely);
  if (candidates < wanted) {
    candidates = gatherCandidates(numbersPtr, standingsPtr, maximaPtr, scratchPtr, count, -f32.MAX_VALUE);
  }
  const least = nthGreatest(scratchPtr, candidates, wanted);
  const endPtr = numbersPtr + ((<usize>candidates) << 2);
  let equals = wanted;
  // Greater ones have come to lie before the n-th.
  for (let i = 0; i < wanted; i++) equals -= <i32>(f32At(scratchPtr, i) > least);
  let toPtr = numbersPtr;
  for (let ptr = numbersPtr; ptr < endPtr; ptr += 4) {
    const token = load<u32>(ptr);
    const standing = f32At(standingsPtr, token);
    if (standing < least || (standing == least && equals-- <= 0)) continue;
    store<u32>(toPtr, token);
    toPtr += 4;
  }
  return least;
}

export function takeScores(
  outPtr: usize, scoresPtr: usize, numbersPtr: usize, count: i32, queryCount: i32, scoreStride: i32,
): void {
  for (let q = 0; q < queryCount; q++, scoresPtr += (<usize>scoreStride) << 2) {
    for (let i = 0; i < count; i++, outPtr += 4) {
      store<f32>(outPtr, f32At(scoresPtr, load<u32>(numbersPtr + ((<usize>i) << 2))));
    }
  }
}

// @ts-expect-error: decorator
@inline
function f32At(rowPtr: usize, token: u32): f32 {
  return load<f32>(rowPtr + ((<usize>token) << 2));
}

export function nthScore(
  scoresPtr: usize, maximaPtr: usize, scratchPtr: usize, blockCount: i32, blockStep: i32, n: i32,
): f32 {
  let blocks: usize = 0;
  for (let block = 0; block < blockCount; block += blockStep, blocks++) {
    store<f32>(scratchPtr + (blocks << 2), load<f32>(maximaPtr + ((<usize>block) << 2)));
  }
  // So many blocks have a score from the n-th greatest maximum on, so the n-th score is no less.
  const least = n <= <i32>blocks ? nthGreatest(scratchPtr, <i32>blocks, n) : -f32.MAX_VALUE;
  const leastF32x4 = f32x4.splat(least);
  let toPtr = scratchPtr;
  for (let block = 0; block < blockCount; block += blockStep) {
    if (load<f32>(maximaPtr + ((<usize>block) << 2)) < least) continue;
    const blockPtr = scoresPtr + 4 * BLOCK_TOKENS * <usize>block;
    for (let ptr = blockPtr; ptr < blockPtr + 4 * BLOCK_TOKENS; ptr += 16) {
      for (let lanes = i32x4.bitmask(f32x4.ge(v128.load(ptr), leastF32x4)); lanes; lanes &= lanes - 1) {
        store<f32>(toPtr, load<f32>(ptr + ((<usize>ctz(lanes)) << 2)));
        toPtr += 4;
      }
    }
  }
  return nthGreatest(scratchPtr, <i32>((toPtr - scratchPtr) >> 2), n);
}

/** A standing that most likely more tokens have than are wanted: by one token of 32, three deviations more than its share. */
function likelyLeast(standingsPtr: usize, scratchPtr: usize, count: i32, wanted: i32): f32 {
  const samples = count >> 5;
  const share = <f32>wanted / 32;
  const rank = 1 + <i32>(share + 3 * sqrt(share));
  if (rank >= samples) return -f32.MAX_VALUE;
  for (let i = 0; i < samples; i++) {
    store<f32>(scratchPtr + ((<usize>i) << 2), f32At(standingsPtr, <u32>((i << 5) | (i & 31))));
  }
  return nthGreatest(scratchPtr, samples, rank);
}

/** Numbers and (at scratch) standings of the tokens from a least standing on. */
function gatherCandidates(
  numbersPtr: usize, standingsPtr: usize, maximaPtr: usize, scratchPtr: usize, count: i32, least: f32,
): i32 {
  const eights = (count + EIGHT - 1) / EIGHT;
  let found: usize = 0;
  for (let eight = 0; eight < eights; eight++) {
    if (load<f32>(maximaPtr + ((<usize>eight) << 2)) < least) continue;
    const end = min(count, (eight + 1) * EIGHT);
    for (let token = eight * EIGHT; token < end; token++) {
      const standing = f32At(standingsPtr, token);
      if (standing < least) continue;
      store<u32>(numbersPtr + found, token);
      store<f32>(scratchPtr + found, standing);
      found += 4;
    }
  }
  return <i32>(found >> 2);
}

/** The n-th greatest of `count` values, n from 1 on; reorders them. */
function nthGreatest(valuesPtr: usize, count: i32, n: i32): f32 {
  return greatestTo(valuesPtr, valuesPtr + ((<usize>(count - 1)) << 2), valuesPtr + ((<usize>(n - 1)) << 2));
}

/** Ranges that are worth a sample: of the 32nd part. */
const LONG_BYTES: usize = 4 * 512;

/**
 * The value that falls to `at` where those from low to high fall (Hoare's quickselect; the pivot of a long range is what
 * falls to `at` in a part of it, shifted to the longer side, so that most branches go one way: Floyd and Rivest 1975).
 */
function greatestTo(low: usize, high: usize, at: usize): f32 {
  while (low < high) {
    let pivot = load<f32>(low + (((high - low) >> 3) << 2));
    if (high - low > LONG_BYTES) {
      const deviation = (<usize>sqrt(<f32>(high - low))) >> 1;
      let before = (at - low) >> 5;
      let behind = (high - at) >> 5;
      if (before < behind) before += deviation;
      else behind += deviation;
      pivot = greatestTo(max(low, at - (before & ~3)), min(high, at + (behind & ~3)), at);
    }
    let i = low;
    let j = high;
    while (i <= j) {
      while (load<f32>(i) > pivot) i += 4;
      while (load<f32>(j) < pivot) j -= 4;
      if (i > j) break;
      const x = load<f32>(i);
      store<f32>(i, load<f32>(j));
      store<f32>(j, x);
      i += 4;
      j -= 4;
    }
    if (at <= j) high = j;
    else if (at >= i) low = i;
    else break;
  }
  return load<f32>(at);
}
