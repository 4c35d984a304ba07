// Small dense f64 products, for metrics and subspaces. Tiles of 4 rows x 4 columns; every element is one sum in the
// order of `inner`, whichever path computes it.

import { multiplyAddF64x2 } from "./lanes";

export function multiply(outPtr: usize, aPtr: usize, bPtr: usize, rows: i32, inner: i32, columns: i32): void {
  let i = 0;
  for (; i + 4 <= rows; i += 4) {
    let j = 0;
    for (; j + 4 <= columns; j += 4) multiplyTile(outPtr, aPtr, bPtr, i, j, inner, columns);
    for (; j < columns; j++) {
      for (let k = i; k < i + 4; k++) multiplyElement(outPtr, aPtr, bPtr, k, j, inner, columns);
    }
  }
  for (; i < rows; i++) {
    for (let j = 0; j < columns; j++) multiplyElement(outPtr, aPtr, bPtr, i, j, inner, columns);
  }
}

function multiplyTile(outPtr: usize, aPtr: usize, bPtr: usize, i: i32, j: i32, inner: i32, columns: i32): void {
  let low0 = f64x2.splat(0);
  let low1 = low0;
  let low2 = low0;
  let low3 = low0;
  let high0 = low0;
  let high1 = low0;
  let high2 = low0;
  let high3 = low0;
  const aStride = (<usize>inner) << 3;
  const bStride = (<usize>columns) << 3;
  let a = aPtr + aStride * <usize>i;
  let b = bPtr + ((<usize>j) << 3);
  for (let k = 0; k < inner; k++, a += 8, b += bStride) {
    const low = v128.load(b);
    const high = v128.load(b, 16);
    const a0 = v128.load_splat<f64>(a);
    low0 = multiplyAddF64x2(low0, a0, low);
    high0 = multiplyAddF64x2(high0, a0, high);
    const a1 = v128.load_splat<f64>(a + aStride);
    low1 = multiplyAddF64x2(low1, a1, low);
    high1 = multiplyAddF64x2(high1, a1, high);
    const a2 = v128.load_splat<f64>(a + 2 * aStride);
    low2 = multiplyAddF64x2(low2, a2, low);
    high2 = multiplyAddF64x2(high2, a2, high);
    const a3 = v128.load_splat<f64>(a + 3 * aStride);
    low3 = multiplyAddF64x2(low3, a3, low);
    high3 = multiplyAddF64x2(high3, a3, high);
  }
  const out = outPtr + bStride * <usize>i + ((<usize>j) << 3);
  v128.store(out, low0);
  v128.store(out, high0, 16);
  v128.store(out + bStride, low1);
  v128.store(out + bStride, high1, 16);
  v128.store(out + 2 * bStride, low2);
  v128.store(out + 2 * bStride, high2, 16);
  v128.store(out + 3 * bStride, low3);
  v128.store(out + 3 * bStride, high3, 16);
}

function multiplyElement(outPtr: usize, aPtr: usize, bPtr: usize, i: i32, j: i32, inner: i32, columns: i32): void {
  let sum: f64 = 0;
  for (let k = 0; k < inner; k++) {
    sum +=
      load<f64>(aPtr + ((<usize>i * <usize>inner + <usize>k) << 3)) *
      load<f64>(bPtr + ((<usize>k * <usize>columns + <usize>j) << 3));
  }
  store<f64>(outPtr + ((<usize>i * <usize>columns + <usize>j) << 3), sum);
}

export function transpose(outPtr: usize, inPtr: usize, rows: i32, columns: i32): void {
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++, inPtr += 8) {
      store<f64>(outPtr + ((<usize>j * <usize>rows + <usize>i) << 3), load<f64>(inPtr));
    }
  }
}
