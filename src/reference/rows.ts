/** Twins of assembly/rows.ts. */
import { fromHalf, toHalf } from "../codec/half.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";

type RowKernels = Pick<
  Kernels,
  "widenF16" | "widenBf16" | "narrowF16" | "countNonFinite" | "gatherRows" | "scatterRows" | "rowNorms" | "scaleRows"
>;

const { fround } = Math;

export const rowTwins = (views: Views): RowKernels => ({
  widenF16(outPtr, bitsPtr, count) {
    const bits = views.u16(bitsPtr, count);
    views.f32(outPtr, count).forEach((_, i, out) => {
      out[i] = fromHalf(bits[i]);
    });
  },

  widenBf16(outPtr, bitsPtr, count) {
    const bits = views.u16(bitsPtr, count);
    views.u32(outPtr, count).forEach((_, i, out) => {
      out[i] = bits[i] << 16;
    });
  },

  narrowF16(outPtr, valuesPtr, count) {
    const values = views.f32(valuesPtr, count);
    views.u16(outPtr, count).forEach((_, i, out) => {
      out[i] = toHalf(values[i]);
    });
  },

  countNonFinite(valuesPtr, count) {
    return views.f32(valuesPtr, count).reduce((found, x) => found + (Number.isFinite(x) ? 0 : 1), 0);
  },

  gatherRows(outPtr, inPtr, rowCount, headCount, headDim, headStride, rowStride) {
    for (let row = 0; row < rowCount; row++) {
      for (let head = 0; head < headCount; head++) {
        const from = views.f32(inPtr + 4 * (head * headStride + row * rowStride), headDim);
        views.f32(outPtr + 4 * (row * headCount + head) * headDim, headDim).set(from);
      }
    }
  },

  scatterRows(outPtr, inPtr, rowCount, headCount, headDim, headStride, rowStride) {
    for (let row = 0; row < rowCount; row++) {
      for (let head = 0; head < headCount; head++) {
        const from = views.f32(inPtr + 4 * (row * headCount + head) * headDim, headDim);
        views.f32(outPtr + 4 * (head * headStride + row * rowStride), headDim).set(from);
      }
    }
  },

  rowNorms(normsPtr, rowsPtr, rowCount, dim) {
    const norms = views.f32(normsPtr, rowCount);
    for (let row = 0; row < rowCount; row++) {
      let sum = 0;
      for (const x of views.f32(rowsPtr + 4 * row * dim, dim)) sum += x * x;
      norms[row] = Math.sqrt(sum / dim);
    }
  },

  scaleRows(outPtr, rowsPtr, factorsPtr, rowCount, dim) {
    const factors = views.f32(factorsPtr, rowCount);
    const rows = views.f32(rowsPtr, rowCount * dim);
    const out = views.f32(outPtr, rowCount * dim);
    for (let i = 0; i < out.length; i++) out[i] = fround(rows[i] * factors[Math.floor(i / dim)]);
  },
});
