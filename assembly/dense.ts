// Attention on f32 rows: the exact tokens of a cache, and the peer that attention on codes is measured against. Keys
// are loaded from memory once for all queries: tiles of 4 tokens x 2 queries, whose rows stay in the first cache.

import { multiplyAddF32x4 } from "./lanes";

export function scoreRows(
  scoresPtr: usize, keysPtr: usize, queriesPtr: usize, rowCount: i32, headDim: i32, queryCount: i32,
  rowStride: i32, scoreStride: i32,
): void {
  const headBytes = (<usize>headDim) << 2;
  const rowBytes = (<usize>rowStride) << 2;
  const scoreBytes = (<usize>scoreStride) << 2;
  let t = 0;
  for (; t + 4 <= rowCount; t += 4, keysPtr += 4 * rowBytes, scoresPtr += 16) {
    let q = 0;
    let queryPtr = queriesPtr;
    let outPtr = scoresPtr;
    for (; q + 2 <= queryCount; q += 2, queryPtr += 2 * headBytes, outPtr += 2 * scoreBytes) {
      scoreTile2(outPtr, scoreBytes, keysPtr, rowBytes, queryPtr, headBytes);
    }
    if (q < queryCount) scoreTile1(outPtr, keysPtr, rowBytes, queryPtr, headBytes);
  }
  for (; t < rowCount; t++, keysPtr += rowBytes, scoresPtr += 4) {
    for (let q = 0; q < queryCount; q++) {
      const score = scoreOne(keysPtr, queriesPtr + headBytes * <usize>q, headBytes);
      store<f32>(scoresPtr + scoreBytes * <usize>q, score);
    }
  }
}

function scoreTile2(outPtr: usize, scoreBytes: usize, keyPtr: usize, rowBytes: usize, queryPtr: usize, headBytes: usize): void {
  let a0 = f32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let b0 = a0;
  let b1 = a0;
  let b2 = a0;
  let b3 = a0;
  const key2Ptr = keyPtr + 2 * rowBytes;
  for (let at: usize = 0; at < headBytes; at += 16) {
    const a = v128.load(queryPtr + at);
    const b = v128.load(queryPtr + headBytes + at);
    const k0 = v128.load(keyPtr + at);
    a0 = multiplyAddF32x4(a0, a, k0);
    b0 = multiplyAddF32x4(b0, b, k0);
    const k1 = v128.load(keyPtr + rowBytes + at);
    a1 = multiplyAddF32x4(a1, a, k1);
    b1 = multiplyAddF32x4(b1, b, k1);
    const k2 = v128.load(key2Ptr + at);
    a2 = multiplyAddF32x4(a2, a, k2);
    b2 = multiplyAddF32x4(b2, b, k2);
    const k3 = v128.load(key2Ptr + rowBytes + at);
    a3 = multiplyAddF32x4(a3, a, k3);
    b3 = multiplyAddF32x4(b3, b, k3);
  }
  v128.store(outPtr, sumRows(a0, a1, a2, a3));
  v128.store(outPtr + scoreBytes, sumRows(b0, b1, b2, b3));
}

function scoreTile1(outPtr: usize, keyPtr: usize, rowBytes: usize, queryPtr: usize, headBytes: usize): void {
  let a0 = f32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  const key2Ptr = keyPtr + 2 * rowBytes;
  for (let at: usize = 0; at < headBytes; at += 16) {
    const a = v128.load(queryPtr + at);
    a0 = multiplyAddF32x4(a0, a, v128.load(keyPtr + at));
    a1 = multiplyAddF32x4(a1, a, v128.load(keyPtr + rowBytes + at));
    a2 = multiplyAddF32x4(a2, a, v128.load(key2Ptr + at));
    a3 = multiplyAddF32x4(a3, a, v128.load(key2Ptr + rowBytes + at));
  }
  v128.store(outPtr, sumRows(a0, a1, a2, a3));
}

/** Four vectors to the vector of their sums, lanes added as (0 + 1) + (2 + 3). */
// @ts-expect-error: decorator
@inline
function sumRows(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab02 = v128.shuffle<f32>(a, b, 0, 4, 2, 6);
  const ab13 = v128.shuffle<f32>(a, b, 1, 5, 3, 7);
  const cd02 = v128.shuffle<f32>(c, d, 0, 4, 2, 6);
  const cd13 = v128.shuffle<f32>(c, d, 1, 5, 3, 7);
  const ab = f32x4.add(ab02, ab13);
  const cd = f32x4.add(cd02, cd13);
  return f32x4.add(i64x2.shuffle(ab, cd, 0, 2), i64x2.shuffle(ab, cd, 1, 3));
}

function scoreOne(keyPtr: usize, queryPtr: usize, headBytes: usize): f32 {
  let sum = f32x4.splat(0);
  for (let at: usize = 0; at < headBytes; at += 16) {
    sum = multiplyAddF32x4(sum, v128.load(queryPtr + at), v128.load(keyPtr + at));
  }
  const low = f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1);
  return low + (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3));
}

/** Tokens mixed at a time: 64 rows of 64 f32 fill half of a first cache. */
const CHUNK_ROWS: i32 = 64;

export function mixRows(
  outPtr: usize, valuesPtr: usize, weightsPtr: usize, rowCount: i32, headDim: i32, queryCount: i32,
  rowStride: i32, weightStride: i32,
): void {
  const headBytes = (<usize>headDim) << 2;
  const rowBytes = (<usize>rowStride) << 2;
  const weightBytes = (<usize>weightStride) << 2;
  for (let row = 0; row < rowCount; row += CHUNK_ROWS) {
    const rows = min(CHUNK_ROWS, rowCount - row);
    const chunkPtr = valuesPtr + rowBytes * <usize>row;
    let q = 0;
    for (; q + 2 <= queryCount; q += 2) {
      const toPtr = outPtr + headBytes * <usize>q;
      const fromPtr = weightsPtr + weightBytes * <usize>q + ((<usize>row) << 2);
      let at: usize = 0;
      for (; at + 64 <= headBytes; at += 64) mixTile2(toPtr + at, headBytes, chunkPtr + at, rowBytes, fromPtr, weightBytes, rows);
      for (; at < headBytes; at += 16) {
        mixTile1(toPtr + at, chunkPtr + at, rowBytes, fromPtr, rows);
        mixTile1(toPtr + headBytes + at, chunkPtr + at, rowBytes, fromPtr + weightBytes, rows);
      }
    }
    if (q < queryCount) {
      const toPtr = outPtr + headBytes * <usize>q;
      const fromPtr = weightsPtr + weightBytes * <usize>q + ((<usize>row) << 2);
      for (let at: usize = 0; at < headBytes; at += 16) mixTile1(toPtr + at, chunkPtr + at, rowBytes, fromPtr, rows);
    }
  }
}

/** 16 dimensions of two queries. */
function mixTile2(
  outPtr: usize, headBytes: usize, valuePtr: usize, rowBytes: usize, weightPtr: usize, weightBytes: usize, rows: i32,
): void {
  const out2Ptr = outPtr + headBytes;
  let a0 = v128.load(outPtr);
  let a1 = v128.load(outPtr, 16);
  let a2 = v128.load(outPtr, 32);
  let a3 = v128.load(outPtr, 48);
  let b0 = v128.load(out2Ptr);
  let b1 = v128.load(out2Ptr, 16);
  let b2 = v128.load(out2Ptr, 32);
  let b3 = v128.load(out2Ptr, 48);
  for (let row = 0; row < rows; row++, valuePtr += rowBytes, weightPtr += 4) {
    const a = v128.load_splat<f32>(weightPtr);
    const b = v128.load_splat<f32>(weightPtr + weightBytes);
    const v0 = v128.load(valuePtr);
    a0 = multiplyAddF32x4(a0, a, v0);
    b0 = multiplyAddF32x4(b0, b, v0);
    const v1 = v128.load(valuePtr, 16);
    a1 = multiplyAddF32x4(a1, a, v1);
    b1 = multiplyAddF32x4(b1, b, v1);
    const v2 = v128.load(valuePtr, 32);
    a2 = multiplyAddF32x4(a2, a, v2);
    b2 = multiplyAddF32x4(b2, b, v2);
    const v3 = v128.load(valuePtr, 48);
    a3 = multiplyAddF32x4(a3, a, v3);
    b3 = multiplyAddF32x4(b3, b, v3);
  }
  v128.store(outPtr, a0);
  v128.store(outPtr, a1, 16);
  v128.store(outPtr, a2, 32);
  v128.store(outPtr, a3, 48);
  v128.store(out2Ptr, b0);
  v128.store(out2Ptr, b1, 16);
  v128.store(out2Ptr, b2, 32);
  v128.store(out2Ptr, b3, 48);
}

/** Four dimensions of one query. */
function mixTile1(outPtr: usize, valuePtr: usize, rowBytes: usize, weightPtr: usize, rows: i32): void {
  let sum = v128.load(outPtr);
  for (let row = 0; row < rows; row++, valuePtr += rowBytes, weightPtr += 4) {
    sum = multiplyAddF32x4(sum, v128.load_splat<f32>(weightPtr), v128.load(valuePtr));
  }
  v128.store(outPtr, sum);
}
