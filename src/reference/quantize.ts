/** Twins of assembly/quantize.ts. */
import { BOOK } from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";

type QuantizeKernels = Pick<
  Kernels,
  "prepareBook" | "bookError" | "encode" | "decode" | "encodeSteps" | "channelStatistics"
>;

const { fround } = Math;

export const quantizeTwins = (views: Views): QuantizeKernels => {
  const levelsAt = (bookPtr: number, bits: number): Float32Array => views.f32(bookPtr + BOOK.levels, 2 ** bits);
  const thresholdsAt = (bookPtr: number, bits: number): Float32Array =>
    views.f32(bookPtr + BOOK.thresholds, 2 ** bits - 1);
  return {
    prepareBook(bookPtr, unitPtr, bits, scale, offset) {
      const unit = views.f32(unitPtr, 2 ** bits);
      const levels = levelsAt(bookPtr, bits);
      const thresholds = thresholdsAt(bookPtr, bits);
      const place = (x: number): number => fround(fround(offset) + fround(fround(scale) * x));
      for (let i = 0; i < levels.length; i++) levels[i] = place(unit[i]);
      for (let i = 0; i < thresholds.length; i++) thresholds[i] = place(fround(fround(unit[i] + unit[i + 1]) * 0.5));
    },

    bookError(bookPtr, valuesPtr, count, strideElements, bits) {
      const [levels, thresholds] = [levelsAt(bookPtr, bits), thresholdsAt(bookPtr, bits)];
      const values = views.f32(valuesPtr, count ? (count - 1) * strideElements + 1 : 0);
      const lanes = [0, 0, 0, 0];
      for (let i = 0; i < count; i++) {
        const x = values[i * strideElements];
        const error = fround(x - levels[codeOf(thresholds, x)]);
        lanes[i % 4] += error * error;
      }
      return lanes[0] + lanes[1] + (lanes[2] + lanes[3]);
    },

    encode(codesPtr, bookPtr, valuesPtr, count, bits) {
      const thresholds = thresholdsAt(bookPtr, bits);
      const values = views.f32(valuesPtr, count);
      views.u8(codesPtr, count).forEach((_, i, codes) => {
        codes[i] = codeOf(thresholds, values[i]);
      });
    },

    decode(valuesPtr, bookPtr, codesPtr, count, bits) {
      const levels = levelsAt(bookPtr, bits);
      const codes = views.u8(codesPtr, count);
      views.f32(valuesPtr, count).forEach((_, i, values) => {
        values[i] = levels[codes[i]];
      });
    },

    encodeSteps(codesPtr, sumsPtr, valuesPtr, count, step, rounding, zero, last) {
      const codes = views.u8(codesPtr, count);
      const lanes = { cross: [0, 0, 0, 0], square: [0, 0, 0, 0] };
      views.f32(valuesPtr, count).forEach((x, i) => {
        const size = Math.floor(fround(fround(Math.abs(x) / fround(step)) + fround(rounding)));
        const q = Math.min(Math.max(x < 0 ? -size : size, -zero), last - zero);
        codes[i] = zero + q;
        lanes.cross[i % 4] += q * x;
        lanes.square[i % 4] += q * q;
      });
      const sum = ([a, b, c, d]: number[]): number => a + b + (c + d);
      views.f64(sumsPtr, 2).set([sum(lanes.cross), sum(lanes.square)]);
    },

    channelStatistics(extremesPtr, valuesPtr, count) {
      const values = views.f32(valuesPtr, count);
      const lanes = [0, 0, 0, 0];
      values.forEach((x, i) => {
        lanes[i % 4] += x * x;
      });
      const extreme = (pick: (a: number, b: number) => number): number => values.reduce((a, b) => pick(a, b));
      views.f32(extremesPtr, 2).set([extreme(Math.min), extreme(Math.max)]);
      return lanes[0] + lanes[1] + (lanes[2] + lanes[3]);
    },
  };
};

/** Number of thresholds below x. */
function codeOf(thresholds: Float32Array, x: number): number {
  let code = 0;
  while (code < thresholds.length && thresholds[code] < x) code++;
  return code;
}
