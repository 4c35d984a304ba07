// Latents to codes and back through a book of levels and thresholds (BOOK in src/codec/layout.ts).

import { sumLanesF64x2 } from "./lanes";

/** Offset of the thresholds in a book. */
export const BOOK_THRESHOLDS: usize = 1024;

export function prepareBook(bookPtr: usize, unitPtr: usize, bits: i32, scale: f32, offset: f32): void {
  const levels = 1 << bits;
  for (let i = 0; i < levels; i++) {
    const at = (<usize>i) << 2;
    const unit = load<f32>(unitPtr + at);
    store<f32>(bookPtr + at, offset + scale * unit);
    if (i + 1 == levels) return;
    const middle = (unit + load<f32>(unitPtr + at, 4)) * <f32>0.5;
    store<f32>(bookPtr + at, offset + scale * middle, BOOK_THRESHOLDS);
  }
}

/** Number of thresholds below x, in 8 branch-free steps for 8 bits and a count otherwise. */
// @ts-expect-error: decorator
@inline
function codeOf(bookPtr: usize, x: f32, bits: i32): i32 {
  let code = 0;
  if (bits == 8) {
    for (let step = 128; step > 0; step >>= 1) {
      const next = code + step;
      code = load<f32>(bookPtr + ((<usize>(next - 1)) << 2), BOOK_THRESHOLDS) < x ? next : code;
    }
    return code;
  }
  const thresholds = (1 << bits) - 1;
  for (let i = 0; i < thresholds; i++) code += <i32>(load<f32>(bookPtr + ((<usize>i) << 2), BOOK_THRESHOLDS) < x);
  return code;
}

// Thresholds below each of four values, for up to 4 bits: every comparison that holds takes one (minus -1) more.
// @ts-expect-error: decorator
@inline
function codesI32x4(bookPtr: usize, x: v128, thresholds: i32): v128 {
  let codes = i32x4.splat(0);
  const endPtr = bookPtr + ((<usize>thresholds) << 2);
  for (let ptr = bookPtr; ptr < endPtr; ptr += 4) {
    codes = i32x4.sub(codes, f32x4.lt(v128.load_splat<f32>(ptr, BOOK_THRESHOLDS), x));
  }
  return codes;
}

export function encode(codesPtr: usize, bookPtr: usize, valuesPtr: usize, count: i32, bits: i32): void {
  let i = 0;
  if (bits <= 4) {
    const thresholds = (1 << bits) - 1;
    for (; i + 4 <= count; i += 4) {
      const codes = codesI32x4(bookPtr, v128.load(valuesPtr + ((<usize>i) << 2)), thresholds);
      const narrow = i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_u(codes, codes), codes);
      v128.store_lane<u32>(codesPtr + <usize>i, narrow, 0);
    }
  }
  for (; i < count; i++) store<u8>(codesPtr + <usize>i, <u8>codeOf(bookPtr, load<f32>(valuesPtr + ((<usize>i) << 2)), bits));
}

export function decode(valuesPtr: usize, bookPtr: usize, codesPtr: usize, count: i32, bits: i32): void {
  for (let i = 0; i < count; i++) {
    const code = <i32>load<u8>(codesPtr + <usize>i);
    assert(code < 1 << bits, "decode: a code past the book");
    const level = load<f32>(bookPtr + ((<usize>code) << 2));
    store<f32>(valuesPtr + ((<usize>i) << 2), level);
  }
}

/** Four lanes of f64 sums: lane i takes elements i, i + 4, …; then (0 + 1) + (2 + 3). */
export function bookError(bookPtr: usize, valuesPtr: usize, count: i32, strideElements: i32, bits: i32): f64 {
  const strideBytes = (<usize>strideElements) << 2;
  const thresholds = bits <= 4 ? (1 << bits) - 1 : 0;
  let sumLow = f64x2.splat(0);
  let sumHigh = sumLow;
  for (let i = 0; i < count; i += 4, valuesPtr += strideBytes << 2) {
    const valid = count - i;
    let x = v128.load32_zero(valuesPtr);
    if (valid > 1) x = v128.load_lane<f32>(valuesPtr + strideBytes, x, 1);
    if (valid > 2) x = v128.load_lane<f32>(valuesPtr + 2 * strideBytes, x, 2);
    if (valid > 3) x = v128.load_lane<f32>(valuesPtr + 3 * strideBytes, x, 3);
    const levels = bits <= 4 ? levelsF32x4(bookPtr, x, thresholds) : searchedLevelsF32x4(bookPtr, x);
    const error = v128.and(f32x4.sub(x, levels), firstLanes(valid));
    const low = f64x2.promote_low_f32x4(error);
    const high = f64x2.promote_low_f32x4(i64x2.shuffle(error, error, 1, 1));
    sumLow = f64x2.add(sumLow, f64x2.mul(low, low));
    sumHigh = f64x2.add(sumHigh, f64x2.mul(high, high));
  }
  const low = f64x2.extract_lane(sumLow, 0) + f64x2.extract_lane(sumLow, 1);
  return low + (f64x2.extract_lane(sumHigh, 0) + f64x2.extract_lane(sumHigh, 1));
}

/** All ones in the first `count` f32 lanes. */
// @ts-expect-error: decorator
@inline
function firstLanes(count: i32): v128 {
  return i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(count));
}

/** Level of each of four values: starts at the lowest and moves up past every threshold below. */
// @ts-expect-error: decorator
@inline
function levelsF32x4(bookPtr: usize, x: v128, thresholds: i32): v128 {
  let levels = v128.load_splat<f32>(bookPtr);
  const endPtr = bookPtr + ((<usize>thresholds) << 2);
  for (let ptr = bookPtr; ptr < endPtr; ptr += 4) {
    const above = f32x4.lt(v128.load_splat<f32>(ptr, BOOK_THRESHOLDS), x);
    levels = v128.bitselect(v128.load_splat<f32>(ptr, 4), levels, above);
  }
  return levels;
}

// @ts-expect-error: decorator
@inline
function searchedLevelsF32x4(bookPtr: usize, x: v128): v128 {
  return f32x4(
    levelOf(bookPtr, f32x4.extract_lane(x, 0)),
    levelOf(bookPtr, f32x4.extract_lane(x, 1)),
    levelOf(bookPtr, f32x4.extract_lane(x, 2)),
    levelOf(bookPtr, f32x4.extract_lane(x, 3)),
  );
}

// @ts-expect-error: decorator
@inline
function levelOf(bookPtr: usize, x: f32): f32 {
  return load<f32>(bookPtr + ((<usize>codeOf(bookPtr, x, 8)) << 2));
}

export function encodeSteps(
  codesPtr: usize, sumsPtr: usize, valuesPtr: usize, count: i32, step: f32, rounding: f32, zero: i32, last: i32,
): void {
  const stepF32x4 = f32x4.splat(step);
  const roundingF32x4 = f32x4.splat(rounding);
  const leastI32x4 = i32x4.splat(-zero);
  const mostI32x4 = i32x4.splat(last - zero);
  let crossLow = f64x2.splat(0);
  let crossHigh = crossLow;
  let squareLow = crossLow;
  let squareHigh = crossLow;
  for (let i = 0; i < count; i += 4) {
    const valid = count - i;
    const at = valuesPtr + ((<usize>i) << 2);
    let x = v128.load32_zero(at);
    if (valid > 3) x = v128.load(at);
    else {
      if (valid > 1) x = v128.load_lane<f32>(at, x, 1, 4);
      if (valid > 2) x = v128.load_lane<f32>(at, x, 2, 8);
    }
    const size = i32x4.trunc_sat_f32x4_s(f32x4.add(f32x4.div(f32x4.abs(x), stepF32x4), roundingF32x4));
    const isNegative = f32x4.lt(x, f32x4.splat(0));
    // -size where negative: all bits flipped, and one.
    const signed = i32x4.sub(v128.xor(size, isNegative), isNegative);
    const q = i32x4.min_s(i32x4.max_s(signed, leastI32x4), mostI32x4);
    const codes = i32x4.add(q, i32x4.splat(zero));
    const narrow = i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_u(codes, codes), codes);
    if (valid > 3) v128.store_lane<u32>(codesPtr + <usize>i, narrow, 0);
    else for (let lane = 0, rest = i32x4.extract_lane(narrow, 0); lane < valid; lane++, rest >>= 8) {
      store<u8>(codesPtr + <usize>(i + lane), <u8>rest);
    }
    const factor = v128.and(f32x4.convert_i32x4_s(q), firstLanes(valid));
    const qLow = f64x2.promote_low_f32x4(factor);
    const qHigh = f64x2.promote_low_f32x4(i64x2.shuffle(factor, factor, 1, 1));
    crossLow = f64x2.add(crossLow, f64x2.mul(qLow, f64x2.promote_low_f32x4(x)));
    crossHigh = f64x2.add(crossHigh, f64x2.mul(qHigh, f64x2.promote_low_f32x4(i64x2.shuffle(x, x, 1, 1))));
    squareLow = f64x2.add(squareLow, f64x2.mul(qLow, qLow));
    squareHigh = f64x2.add(squareHigh, f64x2.mul(qHigh, qHigh));
  }
  store<f64>(sumsPtr, sumLanesF64x2(crossLow) + sumLanesF64x2(crossHigh));
  store<f64>(sumsPtr, sumLanesF64x2(squareLow) + sumLanesF64x2(squareHigh), 8);
}

export function channelStatistics(extremesPtr: usize, valuesPtr: usize, count: i32): f64 {
  let least = load<f32>(valuesPtr);
  let greatest = least;
  let sumLow = f64x2.splat(0);
  let sumHigh = sumLow;
  for (let i = 0; i < count; i += 4, valuesPtr += 16) {
    const valid = count - i;
    let x = v128.load32_zero(valuesPtr);
    if (valid > 3) x = v128.load(valuesPtr);
    else {
      if (valid > 1) x = v128.load_lane<f32>(valuesPtr, x, 1, 4);
      if (valid > 2) x = v128.load_lane<f32>(valuesPtr, x, 2, 8);
    }
    for (let lane = 0; lane < min(valid, 4); lane++) {
      const value = load<f32>(valuesPtr + ((<usize>lane) << 2));
      least = min(least, value);
      greatest = max(greatest, value);
    }
    const low = f64x2.promote_low_f32x4(x);
    const high = f64x2.promote_low_f32x4(i64x2.shuffle(x, x, 1, 1));
    sumLow = f64x2.add(sumLow, f64x2.mul(low, low));
    sumHigh = f64x2.add(sumHigh, f64x2.mul(high, high));
  }
  store<f32>(extremesPtr, least);
  store<f32>(extremesPtr, greatest, 4);
  const low = f64x2.extract_lane(sumLow, 0) + f64x2.extract_lane(sumLow, 1);
  return low + (f64x2.extract_lane(sumHigh, 0) + f64x2.extract_lane(sumHigh, 1));
}
