// Weighted mean and second moment of rows. Contracts in src/runtime/kernels.ts.
//
// secondMoment takes 32 rows at a time: centred, times sqrt(weight), packed to a padded chunk
//
//   chunk (32, paddedDim) f32, paddedDim = dim rounded up to 8, zeros in the padding
//
// then adds every 4 x 8 tile of chunk' * chunk on or right of the diagonal: f32 sums of at most 32 products, widened
// and added to the f64 result. f32 lanes halve the time of f64 lanes; 32 products keep the error at 1e-7 of the
// tile's energy. The left part is mirrored at the end.

import { multiplyAddF32x4 } from "./lanes";

export const MOMENT_CHUNK_ROWS: i32 = 32;

export function mean(meanPtr: usize, rowsPtr: usize, weightsPtr: usize, rowCount: i32, dim: i32): f64 {
  memory.fill(meanPtr, 0, (<usize>dim) << 3);
  let total: f64 = 0;
  for (let row = 0; row < rowCount; row++) {
    const weight = weightsPtr ? <f64>load<f32>(weightsPtr + ((<usize>row) << 2)) : 1.0;
    total += weight;
    let d = 0;
    const weightF64x2 = f64x2.splat(weight);
    for (; d + 2 <= dim; d += 2, rowsPtr += 8) {
      const ptr = meanPtr + ((<usize>d) << 3);
      const x = f64x2.promote_low_f32x4(v128.load_zero<u64>(rowsPtr));
      v128.store(ptr, f64x2.add(v128.load(ptr), f64x2.mul(weightF64x2, x)));
    }
    if (d < dim) {
      const ptr = meanPtr + ((<usize>d) << 3);
      store<f64>(ptr, load<f64>(ptr) + weight * <f64>load<f32>(rowsPtr));
      rowsPtr += 4;
    }
  }
  if (total > 0) {
    for (let d = 0; d < dim; d++) {
      const ptr = meanPtr + ((<usize>d) << 3);
      store<f64>(ptr, load<f64>(ptr) / total);
    }
  }
  return total;
}

export function secondMoment(
  momentPtr: usize, rowsPtr: usize, centrePtr: usize, weightsPtr: usize, scratchPtr: usize, rowCount: i32, dim: i32,
): void {
  memory.fill(momentPtr, 0, ((<usize>dim) * <usize>dim) << 3);
  const paddedDim = (dim + 7) & ~7;
  let total: f64 = 0;
  for (let row = 0; row < rowCount; row += MOMENT_CHUNK_ROWS) {
    const rows = min(MOMENT_CHUNK_ROWS, rowCount - row);
    const from = rowsPtr + (((<usize>row) * <usize>dim) << 2);
    total += packChunk(scratchPtr, from, centrePtr, weightsPtr ? weightsPtr + ((<usize>row) << 2) : 0, rows, dim, paddedDim);
    for (let i = 0; i < dim; i += 4) {
      for (let j = i & ~7; j < dim; j += 8) addTile(momentPtr, scratchPtr, i, j, rows, dim, paddedDim);
    }
  }
  finish(momentPtr, dim, total);
}

/** Centred rows times sqrt(weight), zeros in the padding. Returns the chunk's total weight. */
function packChunk(
  chunkPtr: usize, rowsPtr: usize, centrePtr: usize, weightsPtr: usize, rows: i32, dim: i32, paddedDim: i32,
): f64 {
  let total: f64 = 0;
  for (let row = 0; row < rows; row++) {
    const weight = weightsPtr ? load<f32>(weightsPtr + ((<usize>row) << 2)) : <f32>1;
    const root = Mathf.sqrt(weight);
    total += <f64>weight;
    for (let d = 0; d < dim; d++, rowsPtr += 4, chunkPtr += 4) {
      const x = load<f32>(rowsPtr) - (centrePtr ? load<f32>(centrePtr + ((<usize>d) << 2)) : <f32>0);
      store<f32>(chunkPtr, x * root);
    }
    for (let d = dim; d < paddedDim; d++, chunkPtr += 4) store<f32>(chunkPtr, 0);
  }
  return total;
}

function addTile(momentPtr: usize, chunkPtr: usize, i: i32, j: i32, rows: i32, dim: i32, paddedDim: i32): void {
  let low0 = f32x4.splat(0);
  let low1 = low0;
  let low2 = low0;
  let low3 = low0;
  let high0 = low0;
  let high1 = low0;
  let high2 = low0;
  let high3 = low0;
  const strideBytes = (<usize>paddedDim) << 2;
  let iPtr = chunkPtr + ((<usize>i) << 2);
  let jPtr = chunkPtr + ((<usize>j) << 2);
  for (let row = 0; row < rows; row++, iPtr += strideBytes, jPtr += strideBytes) {
    const low = v128.load(jPtr);
    const high = v128.load(jPtr, 16);
    const a0 = v128.load_splat<f32>(iPtr);
    low0 = multiplyAddF32x4(low0, a0, low);
    high0 = multiplyAddF32x4(high0, a0, high);
    const a1 = v128.load_splat<f32>(iPtr, 4);
    low1 = multiplyAddF32x4(low1, a1, low);
    high1 = multiplyAddF32x4(high1, a1, high);
    const a2 = v128.load_splat<f32>(iPtr, 8);
    low2 = multiplyAddF32x4(low2, a2, low);
    high2 = multiplyAddF32x4(high2, a2, high);
    const a3 = v128.load_splat<f32>(iPtr, 12);
    low3 = multiplyAddF32x4(low3, a3, low);
    high3 = multiplyAddF32x4(high3, a3, high);
  }
  addRow(momentPtr, i, j, dim, low0, high0);
  addRow(momentPtr, i + 1, j, dim, low1, high1);
  addRow(momentPtr, i + 2, j, dim, low2, high2);
  addRow(momentPtr, i + 3, j, dim, low3, high3);
}

// @ts-expect-error: decorator
@inline
function addRow(momentPtr: usize, i: i32, j: i32, dim: i32, low: v128, high: v128): void {
  if (i >= dim) return;
  const ptr = momentPtr + (((<usize>i) * <usize>dim + <usize>j) << 3);
  if (j + 8 <= dim) {
    v128.store(ptr, f64x2.add(v128.load(ptr), f64x2.promote_low_f32x4(low)));
    v128.store(ptr, f64x2.add(v128.load(ptr, 16), f64x2.promote_low_f32x4(i64x2.shuffle(low, low, 1, 1))), 16);
    v128.store(ptr, f64x2.add(v128.load(ptr, 32), f64x2.promote_low_f32x4(high)), 32);
    v128.store(ptr, f64x2.add(v128.load(ptr, 48), f64x2.promote_low_f32x4(i64x2.shuffle(high, high, 1, 1))), 48);
    return;
  }
  addScalar(ptr, f32x4.extract_lane(low, 0));
  if (j + 1 < dim) addScalar(ptr + 8, f32x4.extract_lane(low, 1));
  if (j + 2 < dim) addScalar(ptr + 16, f32x4.extract_lane(low, 2));
  if (j + 3 < dim) addScalar(ptr + 24, f32x4.extract_lane(low, 3));
  if (j + 4 < dim) addScalar(ptr + 32, f32x4.extract_lane(high, 0));
  if (j + 5 < dim) addScalar(ptr + 40, f32x4.extract_lane(high, 1));
  if (j + 6 < dim) addScalar(ptr + 48, f32x4.extract_lane(high, 2));
}

function addScalar(ptr: usize, x: f32): void {
  store<f64>(ptr, load<f64>(ptr) + <f64>x);
}

/** Divides by the total weight and mirrors the right part to the left. */
function finish(momentPtr: usize, dim: i32, total: f64): void {
  const scale = total > 0 ? 1.0 / total : 0;
  for (let i = 0; i < dim; i++) {
    for (let j = i; j < dim; j++) {
      const ptr = momentPtr + (((<usize>i) * <usize>dim + <usize>j) << 3);
      const x = load<f64>(ptr) * scale;
      store<f64>(ptr, x);
      store<f64>(momentPtr + (((<usize>j) * <usize>dim + <usize>i) << 3), x);
    }
  }
}
