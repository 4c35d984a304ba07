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
