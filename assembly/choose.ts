// The tokens that stand out, for selection: of the standings of all tokens the greatest, found by comparisons alone.

import { greatestLaneF32x4 } from "./lanes";

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
  const candidates = gatherCandidates(numbersPtr, standingsPtr, maximaPtr, scratchPtr, count, wanted);
  const least = nthGreatest(scratchPtr, candidates, wanted);
  const endPtr = numbersPtr + ((<usize>candidates) << 2);
  let equals = wanted;
  for (let ptr = numbersPtr; ptr < endPtr; ptr += 4) equals -= <i32>(standingOf(standingsPtr, load<u32>(ptr)) > least);
  let toPtr = numbersPtr;
  for (let ptr = numbersPtr; ptr < endPtr; ptr += 4) {
    const token = load<u32>(ptr);
    const standing = standingOf(standingsPtr, token);
    if (standing < least || (standing == least && equals-- <= 0)) continue;
    store<u32>(toPtr, token);
    toPtr += 4;
  }
  return least;
}

// @ts-expect-error: decorator
@inline
function standingOf(standingsPtr: usize, token: u32): f32 {
  return load<f32>(standingsPtr + ((<usize>token) << 2));
}

/**
 * Numbers and (at scratch) standings of all tokens that may be among the wanted: at least so many eights have a greatest
 * standing from the n-th greatest on, so no token below it is needed.
 */
function gatherCandidates(
  numbersPtr: usize, standingsPtr: usize, maximaPtr: usize, scratchPtr: usize, count: i32, wanted: i32,
): i32 {
  const eights = (count + EIGHT - 1) / EIGHT;
  let least = -f32.MAX_VALUE;
  if (wanted <= eights) {
    memory.copy(scratchPtr, maximaPtr, (<usize>eights) << 2);
    least = nthGreatest(scratchPtr, eights, wanted);
  }
  let found: usize = 0;
  for (let eight = 0; eight < eights; eight++) {
    if (load<f32>(maximaPtr + ((<usize>eight) << 2)) < least) continue;
    const end = min(count, (eight + 1) * EIGHT);
    for (let token = eight * EIGHT; token < end; token++) {
      const standing = standingOf(standingsPtr, token);
      if (standing < least) continue;
      store<u32>(numbersPtr + found, token);
      store<f32>(scratchPtr + found, standing);
      found += 4;
    }
  }
  return <i32>(found >> 2);
}

/** The n-th greatest of `count` values, n from 1 on (Hoare's quickselect); reorders them. */
function nthGreatest(valuesPtr: usize, count: i32, n: i32): f32 {
  let low = valuesPtr;
  let high = valuesPtr + ((<usize>(count - 1)) << 2);
  const at = valuesPtr + ((<usize>(n - 1)) << 2);
  while (low < high) {
    const pivot = load<f32>(low + (((high - low) >> 3) << 2));
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
