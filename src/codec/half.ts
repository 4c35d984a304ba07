/**
 * IEEE 754 binary16 ("half", f16) on the host, in plain arithmetic: Float16Array is not in Node 20.
 * Bulk conversion is the kernels' work (`widenF16`, `narrowF16`); this is for single scales and norms.
 *
 *   bits   sign 1 | exponent 5, bias 15 | fraction 10
 */

/** 2^52: adding and taking it away rounds a number in [0, 2^51] to an integer, ties to even. */
const ROUNDER = 4503599627370496;
/** Smallest normal half, 2^-14, and the step of subnormals, 2^-24. */
const LEAST_NORMAL = 1 / 16384;
const LEAST_SUBNORMAL = 1 / 16777216;
/** Halfway between the largest half, 65504, and 2^16: from here on the nearest half is infinity. */
const OVERFLOW = 65520;

const f64 = new Float64Array(1);
const u32 = new Uint32Array(f64.buffer);
/** Index of the word with the exponent: 1 where the host is little-endian. */
const HIGH_WORD = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1 ? 1 : 0;

/** 2^(index - 14), index 0 to 30. */
const POWERS = Float64Array.from({ length: 31 }, (_, i) => (i < 14 ? 1 / (1 << (14 - i)) : 1 << (i - 14)));

/** Bits of the half nearest to x (ties to even; no double rounding through f32). Overflow gives infinity, NaN 0x7e00. */
export function toHalf(x: number): number {
  if (Number.isNaN(x)) return 0x7e00;
  const magnitude = Math.abs(x);
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  if (magnitude >= OVERFLOW) return sign | 0x7c00;
  // A fraction that rounds up to the next power of two carries into the exponent by itself, in both branches.
  if (magnitude < LEAST_NORMAL) return sign | (magnitude / LEAST_SUBNORMAL + ROUNDER - ROUNDER);
  f64[0] = magnitude;
  const exponent = (u32[HIGH_WORD] >>> 20) - 1023;
  const significand = (magnitude / POWERS[exponent + 14]) * 1024 + ROUNDER - ROUNDER;
  return sign | (((exponent + 14) << 10) + significand);
}

/** The number that the low 16 bits of `bits` stand for, exactly. */
export function fromHalf(bits: number): number {
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  let magnitude: number;
  if (exponent === 31) magnitude = fraction ? Number.NaN : Number.POSITIVE_INFINITY;
  else if (exponent === 0) magnitude = fraction * LEAST_SUBNORMAL;
  else magnitude = (1 + fraction / 1024) * POWERS[exponent - 1];
  return bits & 0x8000 ? -magnitude : magnitude;
}
