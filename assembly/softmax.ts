// Softmax of a row of scores. exp in f32: x = n ln 2 + r, |r| <= ln 2 / 2, a degree-6 Taylor polynomial in r (error
// 2e-7), and n added to its exponent. No host function takes part, so every host gets the same bits.

import { greatestLaneF32x4, multiplyAddF32x4, ROUNDING, sumLanesF64x2 } from "./lanes";

// Below this exp(x) is no normal f32; such weights are zero.
const LEAST_EXPONENT: f32 = -87.0;

export function softmax(weightsPtr: usize, scoresPtr: usize, count: i32, scale: f32): f64 {
  const sum = exponentials(weightsPtr, scoresPtr, count, scale);
  const inverse = <f32>(1.0 / sum);
  const inverseF32x4 = f32x4.splat(inverse);
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const ptr = weightsPtr + ((<usize>i) << 2);
    v128.store(ptr, f32x4.mul(v128.load(ptr), inverseF32x4));
  }
  for (; i < count; i++) {
    const ptr = weightsPtr + ((<usize>i) << 2);
    store<f32>(ptr, load<f32>(ptr) * inverse);
  }
  return sum;
}

/** Softmax before its division. */
export function exponentials(weightsPtr: usize, scoresPtr: usize, count: i32, scale: f32): f64 {
  if (count == 0) return 0;
  const greatest = greatestOf(scoresPtr, count);
  const greatestF32x4 = f32x4.splat(greatest);
  const scaleF32x4 = f32x4.splat(scale);
  let sumLow = f64x2.splat(0);
  let sumHigh = sumLow;
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const offset = (<usize>i) << 2;
    const x = f32x4.mul(f32x4.sub(v128.load(scoresPtr + offset), greatestF32x4), scaleF32x4);
    const e = expF32x4(x);
    v128.store(weightsPtr + offset, e);
    sumLow = f64x2.add(sumLow, f64x2.promote_low_f32x4(e));
    sumHigh = f64x2.add(sumHigh, f64x2.promote_low_f32x4(i64x2.shuffle(e, e, 1, 1)));
  }
  let sum = sumLanesF64x2(sumLow) + sumLanesF64x2(sumHigh);
  for (; i < count; i++) {
    const offset = (<usize>i) << 2;
    const e = f32x4.extract_lane(expF32x4(f32x4.splat((load<f32>(scoresPtr + offset) - greatest) * scale)), 0);
    store<f32>(weightsPtr + offset, e);
    sum += <f64>e;
  }
  return sum;
}

export function sampledExponentials(
  scoresPtr: usize, standingsPtr: usize, blockCount: i32, blockStep: i32, least: f32, from: f32, scale: f32,
): f64 {
  const leastF32x4 = f32x4.splat(least);
  const fromF32x4 = f32x4.splat(from);
  const scaleF32x4 = f32x4.splat(scale);
  let sumLow = f64x2.splat(0);
  let sumHigh = sumLow;
  for (let block = 0, i = 0; block < blockCount; block += blockStep, i++) {
    const offset = ((<usize>block) << 7) + ((<usize>(i & 7)) << 4);
    const x = f32x4.mul(f32x4.sub(v128.load(scoresPtr + offset), fromF32x4), scaleF32x4);
    const e = v128.and(expF32x4(x), f32x4.lt(v128.load(standingsPtr + offset), leastF32x4));
    sumLow = f64x2.add(sumLow, f64x2.promote_low_f32x4(e));
    sumHigh = f64x2.add(sumHigh, f64x2.promote_low_f32x4(i64x2.shuffle(e, e, 1, 1)));
  }
  return sumLanesF64x2(sumLow) + sumLanesF64x2(sumHigh);
}

function greatestOf(scoresPtr: usize, count: i32): f32 {
  let top = v128.load_splat<f32>(scoresPtr);
  let i = 0;
  for (; i + 4 <= count; i += 4) top = f32x4.pmax(top, v128.load(scoresPtr + ((<usize>i) << 2)));
  let greatest = greatestLaneF32x4(top);
  for (; i < count; i++) greatest = max(greatest, load<f32>(scoresPtr + ((<usize>i) << 2)));
  return greatest;
}

// @ts-expect-error: decorator
@inline
function expF32x4(x: v128): v128 {
  // The low bits of `shifted` are n, so its bits shifted by 23 add n to an exponent.
  const shifted = f32x4.add(f32x4.mul(x, f32x4.splat(1.44269504)), f32x4.splat(ROUNDING));
  const n = f32x4.sub(shifted, f32x4.splat(ROUNDING));
  const r = f32x4.sub(
    f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375))),
    f32x4.mul(n, f32x4.splat(-2.1219444e-4)),
  );
  let p = f32x4.splat(1.38888889e-3);
  p = multiplyAddF32x4(f32x4.splat(8.33333333e-3), p, r);
  p = multiplyAddF32x4(f32x4.splat(4.16666667e-2), p, r);
  p = multiplyAddF32x4(f32x4.splat(1.66666667e-1), p, r);
  p = multiplyAddF32x4(f32x4.splat(0.5), p, r);
  p = multiplyAddF32x4(f32x4.splat(1), p, r);
  p = multiplyAddF32x4(f32x4.splat(1), p, r);
  const power = i32x4.add(p, i32x4.shl(shifted, 23));
  return v128.and(power, f32x4.ge(x, f32x4.splat(LEAST_EXPONENT)));
}
