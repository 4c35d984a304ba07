// Inline lane helpers. SIMD values are named by their lanes: sumF32x4, codesU8x16.

/** Sum of both lanes. */
// @ts-expect-error: decorator
@inline
export function sumLanesF64x2(x: v128): f64 {
  return f64x2.extract_lane(x, 0) + f64x2.extract_lane(x, 1);
}

/** acc + a * b for f64 lanes; two roundings, the same on every host. */
// @ts-expect-error: decorator
@inline
export function multiplyAddF64x2(acc: v128, a: v128, b: v128): v128 {
  return f64x2.add(acc, f64x2.mul(a, b));
}

/** acc + a * b for f32 lanes; two roundings, the same on every host. */
// @ts-expect-error: decorator
@inline
export function multiplyAddF32x4(acc: v128, a: v128, b: v128): v128 {
  return f32x4.add(acc, f32x4.mul(a, b));
}

/** 1.5 * 2^23: added to |x| < 2^22 it leaves x, rounded to the nearest even integer, in the low bits. */
// @ts-expect-error: decorator
@inline
export const ROUNDING: f32 = 12582912;

/** Least and greatest lane of finite numbers: one instruction a step, where f32x4.min must look after NaN. */
// @ts-expect-error: decorator
@inline
export function leastLaneF32x4(x: v128): f32 {
  x = f32x4.pmin(x, i64x2.shuffle(x, x, 1, 1));
  return f32x4.extract_lane(f32x4.pmin(x, i32x4.shuffle(x, x, 1, 1, 1, 1)), 0);
}

// @ts-expect-error: decorator
@inline
export function greatestLaneF32x4(x: v128): f32 {
  x = f32x4.pmax(x, i64x2.shuffle(x, x, 1, 1));
  return f32x4.extract_lane(f32x4.pmax(x, i32x4.shuffle(x, x, 1, 1, 1, 1)), 0);
}
