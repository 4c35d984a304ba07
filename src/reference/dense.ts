/** Twins of assembly/dense.ts. */
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { sumOfLanes } from "./rounding.ts";

const { fround } = Math;

export const denseTwins = (views: Views): Pick<Kernels, "scoreRows" | "mixRows"> => ({
  scoreRows(scoresPtr, keysPtr, queriesPtr, rowCount, headDim, queryCount, rowStride, scoreStride) {
    for (let q = 0; q < queryCount; q++) {
      const query = views.f32(queriesPtr + 4 * q * headDim, headDim);
      const scores = views.f32(scoresPtr + 4 * q * scoreStride, rowCount);
      for (let t = 0; t < rowCount; t++) {
        const key = views.f32(keysPtr + 4 * t * rowStride, headDim);
        const lanes = [0, 0, 0, 0];
        for (let d = 0; d < headDim; d++) lanes[d % 4] = fround(lanes[d % 4] + fround(query[d] * key[d]));
        scores[t] = sumOfLanes(lanes);
      }
    }
  },

  mixRows(outPtr, valuesPtr, weightsPtr, rowCount, headDim, queryCount, rowStride, weightStride) {
    for (let q = 0; q < queryCount; q++) {
      const out = views.f32(outPtr + 4 * q * headDim, headDim);
      const weights = views.f32(weightsPtr + 4 * q * weightStride, rowCount);
      for (let t = 0; t < rowCount; t++) {
        const value = views.f32(valuesPtr + 4 * t * rowStride, headDim);
        for (let d = 0; d < headDim; d++) out[d] += fround(weights[t] * value[d]);
      }
    }
  },
});
