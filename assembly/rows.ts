// Engine tensors <-> rows: element types, strides, norms. Contracts in src/runtime/kernels.ts.

export function widenF16(outPtr: usize, bitsPtr: usize, count: i32): void {
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const half = v128.load_zero<u64>(bitsPtr + ((<usize>i) << 1));
    v128.store(outPtr + ((<usize>i) << 2), widenHalfU16x4(i32x4.extend_low_i16x8_u(half)));
  }
  for (; i < count; i++) {
    const half = i32x4.splat(<i32>load<u16>(bitsPtr + ((<usize>i) << 1)));
    store<f32>(outPtr + ((<usize>i) << 2), f32x4.extract_lane(widenHalfU16x4(half), 0));
  }
}

// Exponent and fraction shifted into place are off by 2^112, also for subnormal halves, where the product is exact.
// @ts-expect-error: decorator
@inline
function widenHalfU16x4(halfI32x4: v128): v128 {
  const sign = i32x4.shl(v128.and(halfI32x4, i32x4.splat(0x8000)), 16);
  const body = i32x4.shl(v128.and(halfI32x4, i32x4.splat(0x7fff)), 13);
  const special = i32x4.gt_u(body, i32x4.splat(0x0f7fffff));
  const finite = f32x4.mul(body, f32x4.splat(reinterpret<f32>(0x77800000)));
  const infinite = v128.or(body, i32x4.splat(0x7f800000));
  return v128.or(sign, v128.bitselect(infinite, finite, special));
}

export function widenBf16(outPtr: usize, bitsPtr: usize, count: i32): void {
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const bits = v128.load_zero<u64>(bitsPtr + ((<usize>i) << 1));
    v128.store(outPtr + ((<usize>i) << 2), i32x4.shl(i32x4.extend_low_i16x8_u(bits), 16));
  }
  for (; i < count; i++) store<u32>(outPtr + ((<usize>i) << 2), (<u32>load<u16>(bitsPtr + ((<usize>i) << 1))) << 16);
}

export function narrowF16(outPtr: usize, valuesPtr: usize, count: i32): void {
  for (let i = 0; i < count; i++) {
    store<u16>(outPtr + ((<usize>i) << 1), <u16>narrowHalf(load<u32>(valuesPtr + ((<usize>i) << 2))));
  }
}

// Nearest even. The three cases: overflow and NaN; subnormal half, rounded by adding 0.5; normal.
// @ts-expect-error: decorator
@inline
function narrowHalf(bits: u32): u32 {
  const sign = (bits >> 16) & 0x8000;
  const body = bits & 0x7fffffff;
  if (body >= 0x47800000) return sign | (body > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (body < 0x38800000) {
    return sign | (reinterpret<u32>(reinterpret<f32>(body) + <f32>0.5) - 0x3f000000);
  }
  return sign | ((body - 0x38000000 + 0xfff + ((body >> 13) & 1)) >> 13);
}

export function countNonFinite(valuesPtr: usize, count: i32): i32 {
  let found = 0;
  for (let i = 0; i < count; i++) {
    found += <i32>((load<u32>(valuesPtr + ((<usize>i) << 2)) & 0x7f800000) == 0x7f800000);
  }
  return found;
}

export function gatherRows(
  outPtr: usize, inPtr: usize, rowCount: i32, headCount: i32, headDim: i32, headStride: i32, rowStride: i32,
): void {
  const headBytes = (<usize>headDim) << 2;
  for (let row = 0; row < rowCount; row++) {
    for (let head = 0; head < headCount; head++) {
      const from = inPtr + (((<usize>head) * <usize>headStride + (<usize>row) * <usize>rowStride) << 2);
      copyVectors(outPtr, from, headBytes);
      outPtr += headBytes;
    }
  }
}

export function scatterRows(
  outPtr: usize, inPtr: usize, rowCount: i32, headCount: i32, headDim: i32, headStride: i32, rowStride: i32,
): void {
  const headBytes = (<usize>headDim) << 2;
  for (let row = 0; row < rowCount; row++) {
    for (let head = 0; head < headCount; head++) {
      const to = outPtr + (((<usize>head) * <usize>headStride + (<usize>row) * <usize>rowStride) << 2);
      copyVectors(to, inPtr, headBytes);
      inPtr += headBytes;
    }
  }
}

// @ts-expect-error: decorator
@inline
function copyVectors(toPtr: usize, fromPtr: usize, bytes: usize): void {
  for (let at: usize = 0; at < bytes; at += 16) v128.store(toPtr + at, v128.load(fromPtr + at));
}

export function rowNorms(normsPtr: usize, rowsPtr: usize, rowCount: i32, dim: i32): void {
  for (let row = 0; row < rowCount; row++) {
    let sum: f64 = 0;
    for (let d = 0; d < dim; d++, rowsPtr += 4) {
      const x = <f64>load<f32>(rowsPtr);
      sum += x * x;
    }
    store<f32>(normsPtr + ((<usize>row) << 2), <f32>Math.sqrt(sum / <f64>dim));
  }
}

export function scaleRows(outPtr: usize, rowsPtr: usize, factorsPtr: usize, rowCount: i32, dim: i32): void {
  for (let row = 0; row < rowCount; row++) {
    const factor = load<f32>(factorsPtr + ((<usize>row) << 2));
    for (let d = 0; d < dim; d++, rowsPtr += 4, outPtr += 4) store<f32>(outPtr, load<f32>(rowsPtr) * factor);
  }
}
