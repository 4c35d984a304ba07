/** Twins of assembly/project.ts. */
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";

const { fround } = Math;

export const projectTwins = (views: Views): Pick<Kernels, "project" | "synthesize"> => ({
  project(latentsPtr, rowsPtr, centrePtr, analysisPtr, rowCount, dim, channelCount, latentStride) {
    const rows = views.f32(rowsPtr, rowCount * dim);
    const centre = centrePtr ? views.f32(centrePtr, dim) : new Float32Array(dim);
    const analysis = views.f32(analysisPtr, dim * channelCount);
    for (let c = 0; c < channelCount; c++) {
      const latents = views.f32(latentsPtr + 4 * c * latentStride, rowCount);
      for (let t = 0; t < rowCount; t++) {
        let sum = 0;
        for (let d = 0; d < dim; d++) {
          sum = fround(sum + fround(fround(rows[t * dim + d] - centre[d]) * analysis[d * channelCount + c]));
        }
        latents[t] = sum;
      }
    }
  },

  synthesize(rowsPtr, latentsPtr, centrePtr, synthesisPtr, rowCount, dim, channelCount, latentStride) {
    const rows = views.f32(rowsPtr, rowCount * dim);
    const centre = centrePtr ? views.f32(centrePtr, dim) : new Float32Array(dim);
    const synthesis = views.f32(synthesisPtr, channelCount * dim);
    for (let t = 0; t < rowCount; t++) rows.set(centre, t * dim);
    for (let c = 0; c < channelCount; c++) {
      const latents = views.f32(latentsPtr + 4 * c * latentStride, rowCount);
      for (let t = 0; t < rowCount; t++) {
        for (let d = 0; d < dim; d++) rows[t * dim + d] += fround(latents[t] * synthesis[c * dim + d]);
      }
    }
  },
});
