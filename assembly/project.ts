// Rows -> latents and back: f32 products in tiles of 4 tokens x 8 outputs. Latents are channel-major, so that a
// channel's tokens lie side by side for the quantizer and the planes. Every output is one sum in a fixed order,
// whichever path computes it.

import { multiplyAddF32x4 } from "./lanes";

export function project(
  latentsPtr: usize, rowsPtr: usize, centrePtr: usize, analysisPtr: usize,
  rowCount: i32, dim: i32, channelCount: i32, latentStride: i32,
): void {
  const strideBytes = (<usize>latentStride) << 2;
  let t = 0;
  for (; t + 4 <= rowCount; t += 4) {
    const rowPtr = rowsPtr + (((<usize>t) * <usize>dim) << 2);
    let c = 0;
    for (; c + 8 <= channelCount; c += 8) {
      const outPtr = latentsPtr + strideBytes * <usize>c + ((<usize>t) << 2);
      projectTile(outPtr, strideBytes, rowPtr, centrePtr, analysisPtr + ((<usize>c) << 2), dim, channelCount);
    }
    for (; c < channelCount; c++) {
      for (let i = t; i < t + 4; i++) projectElement(latentsPtr, rowsPtr, centrePtr, analysisPtr, i, c, dim, channelCount, strideBytes);
    }
  }
  for (; t < rowCount; t++) {
    for (let c = 0; c < channelCount; c++) projectElement(latentsPtr, rowsPtr, centrePtr, analysisPtr, t, c, dim, channelCount, strideBytes);
  }
}

function projectTile(
  outPtr: usize, strideBytes: usize, rowPtr: usize, centrePtr: usize, analysisPtr: usize, dim: i32, channelCount: i32,
): void {
  let low0 = f32x4.splat(0);
  let low1 = low0;
  let low2 = low0;
  let low3 = low0;
  let high0 = low0;
  let high1 = low0;
  let high2 = low0;
  let high3 = low0;
  const rowBytes = (<usize>dim) << 2;
  const channelBytes = (<usize>channelCount) << 2;
  let centreF32x4 = f32x4.splat(0);
  for (let d = 0; d < dim; d++, rowPtr += 4, analysisPtr += channelBytes) {
    if (centrePtr) centreF32x4 = v128.load_splat<f32>(centrePtr + ((<usize>d) << 2));
    const low = v128.load(analysisPtr);
    const high = v128.load(analysisPtr, 16);
    const x0 = f32x4.sub(v128.load_splat<f32>(rowPtr), centreF32x4);
    low0 = multiplyAddF32x4(low0, x0, low);
    high0 = multiplyAddF32x4(high0, x0, high);
    const x1 = f32x4.sub(v128.load_splat<f32>(rowPtr + rowBytes), centreF32x4);
    low1 = multiplyAddF32x4(low1, x1, low);
    high1 = multiplyAddF32x4(high1, x1, high);
    const x2 = f32x4.sub(v128.load_splat<f32>(rowPtr + 2 * rowBytes), centreF32x4);
    low2 = multiplyAddF32x4(low2, x2, low);
    high2 = multiplyAddF32x4(high2, x2, high);
    const x3 = f32x4.sub(v128.load_splat<f32>(rowPtr + 3 * rowBytes), centreF32x4);
    low3 = multiplyAddF32x4(low3, x3, low);
    high3 = multiplyAddF32x4(high3, x3, high);
  }
  storeTransposed(outPtr, strideBytes, low0, low1, low2, low3);
  storeTransposed(outPtr + 4 * strideBytes, strideBytes, high0, high1, high2, high3);
}

/** Four vectors of four channels, a vector a token, to four channels of four tokens. */
// @ts-expect-error: decorator
@inline
function storeTransposed(outPtr: usize, strideBytes: usize, a: v128, b: v128, c: v128, d: v128): void {
  const ab02 = v128.shuffle<f32>(a, b, 0, 4, 2, 6);
  const ab13 = v128.shuffle<f32>(a, b, 1, 5, 3, 7);
  const cd02 = v128.shuffle<f32>(c, d, 0, 4, 2, 6);
  const cd13 = v128.shuffle<f32>(c, d, 1, 5, 3, 7);
  v128.store(outPtr, i64x2.shuffle(ab02, cd02, 0, 2));
  v128.store(outPtr + strideBytes, i64x2.shuffle(ab13, cd13, 0, 2));
  v128.store(outPtr + 2 * strideBytes, i64x2.shuffle(ab02, cd02, 1, 3));
  v128.store(outPtr + 3 * strideBytes, i64x2.shuffle(ab13, cd13, 1, 3));
}

function projectElement(
  latentsPtr: usize, rowsPtr: usize, centrePtr: usize, analysisPtr: usize, t: i32, c: i32, dim: i32, channelCount: i32, strideBytes: usize,
): void {
  let sum: f32 = 0;
  for (let d = 0; d < dim; d++) {
    const centre = centrePtr ? load<f32>(centrePtr + ((<usize>d) << 2)) : <f32>0;
    const x = load<f32>(rowsPtr + (((<usize>t) * <usize>dim + <usize>d) << 2)) - centre;
    sum += x * load<f32>(analysisPtr + (((<usize>d) * <usize>channelCount + <usize>c) << 2));
  }
  store<f32>(latentsPtr + strideBytes * <usize>c + ((<usize>t) << 2), sum);
}

export function synthesize(
  rowsPtr: usize, latentsPtr: usize, centrePtr: usize, synthesisPtr: usize,
  rowCount: i32, dim: i32, channelCount: i32, latentStride: i32,
): void {
  const strideBytes = (<usize>latentStride) << 2;
  let t = 0;
  for (; t + 4 <= rowCount; t += 4) {
    let d = 0;
    for (; d + 8 <= dim; d += 8) synthesizeTile(rowsPtr, latentsPtr, centrePtr, synthesisPtr, t, d, dim, channelCount, strideBytes);
    for (; d < dim; d++) {
      for (let i = t; i < t + 4; i++) synthesizeElement(rowsPtr, latentsPtr, centrePtr, synthesisPtr, i, d, dim, channelCount, strideBytes);
    }
  }
  for (; t < rowCount; t++) {
    for (let d = 0; d < dim; d++) synthesizeElement(rowsPtr, latentsPtr, centrePtr, synthesisPtr, t, d, dim, channelCount, strideBytes);
  }
}

function synthesizeTile(
  rowsPtr: usize, latentsPtr: usize, centrePtr: usize, synthesisPtr: usize, t: i32, d: i32, dim: i32, channelCount: i32, strideBytes: usize,
): void {
  const offset = (<usize>d) << 2;
  let low0 = centrePtr ? v128.load(centrePtr + offset) : f32x4.splat(0);
  let high0 = centrePtr ? v128.load(centrePtr + offset, 16) : f32x4.splat(0);
  let low1 = low0;
  let low2 = low0;
  let low3 = low0;
  let high1 = high0;
  let high2 = high0;
  let high3 = high0;
  const rowBytes = (<usize>dim) << 2;
  let latentPtr = latentsPtr + ((<usize>t) << 2);
  let basisPtr = synthesisPtr + offset;
  for (let c = 0; c < channelCount; c++, latentPtr += strideBytes, basisPtr += rowBytes) {
    const low = v128.load(basisPtr);
    const high = v128.load(basisPtr, 16);
    const x0 = v128.load_splat<f32>(latentPtr);
    low0 = multiplyAddF32x4(low0, x0, low);
    high0 = multiplyAddF32x4(high0, x0, high);
    const x1 = v128.load_splat<f32>(latentPtr, 4);
    low1 = multiplyAddF32x4(low1, x1, low);
    high1 = multiplyAddF32x4(high1, x1, high);
    const x2 = v128.load_splat<f32>(latentPtr, 8);
    low2 = multiplyAddF32x4(low2, x2, low);
    high2 = multiplyAddF32x4(high2, x2, high);
    const x3 = v128.load_splat<f32>(latentPtr, 12);
    low3 = multiplyAddF32x4(low3, x3, low);
    high3 = multiplyAddF32x4(high3, x3, high);
  }
  const outPtr = rowsPtr + rowBytes * <usize>t + offset;
  v128.store(outPtr, low0);
  v128.store(outPtr, high0, 16);
  v128.store(outPtr + rowBytes, low1);
  v128.store(outPtr + rowBytes, high1, 16);
  v128.store(outPtr + 2 * rowBytes, low2);
  v128.store(outPtr + 2 * rowBytes, high2, 16);
  v128.store(outPtr + 3 * rowBytes, low3);
  v128.store(outPtr + 3 * rowBytes, high3, 16);
}

function synthesizeElement(
  rowsPtr: usize, latentsPtr: usize, centrePtr: usize, synthesisPtr: usize, t: i32, d: i32, dim: i32, channelCount: i32, strideBytes: usize,
): void {
  let sum = centrePtr ? load<f32>(centrePtr + ((<usize>d) << 2)) : <f32>0;
  for (let c = 0; c < channelCount; c++) {
    const x = load<f32>(latentsPtr + strideBytes * <usize>c + ((<usize>t) << 2));
    sum += x * load<f32>(synthesisPtr + (((<usize>c) * <usize>dim + <usize>d) << 2));
  }
  store<f32>(rowsPtr + (((<usize>t) * <usize>dim + <usize>d) << 2), sum);
}
