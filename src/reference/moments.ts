/** Twins of assembly/moments.ts. */
import { MOMENT_CHUNK_ROWS } from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";

const { fround } = Math;

export const momentTwins = (views: Views): Pick<Kernels, "mean" | "secondMoment"> => ({
  mean(meanPtr, rowsPtr, weightsPtr, rowCount, dim) {
    const mean = views.f64(meanPtr, dim).fill(0);
    const weights = weightsPtr ? views.f32(weightsPtr, rowCount) : undefined;
    let total = 0;
    for (let row = 0; row < rowCount; row++) {
      const weight = weights ? weights[row] : 1;
      total += weight;
      views.f32(rowsPtr + 4 * row * dim, dim).forEach((x, d) => {
        mean[d] += weight * x;
      });
    }
    if (total > 0) for (let d = 0; d < dim; d++) mean[d] /= total;
    return total;
  },

  secondMoment(momentPtr, rowsPtr, centrePtr, weightsPtr, _scratchPtr, rowCount, dim) {
    const moment = views.f64(momentPtr, dim * dim).fill(0);
    const centre = centrePtr ? views.f32(centrePtr, dim) : new Float32Array(dim);
    const weights = weightsPtr ? views.f32(weightsPtr, rowCount) : new Float32Array(rowCount).fill(1);
    let total = 0;
    for (let start = 0; start < rowCount; start += MOMENT_CHUNK_ROWS) {
      const rows = Math.min(MOMENT_CHUNK_ROWS, rowCount - start);
      const chunk = new Float32Array(rows * dim);
      let chunkTotal = 0;
      for (let row = 0; row < rows; row++) {
        const x = views.f32(rowsPtr + 4 * (start + row) * dim, dim);
        const root = fround(Math.sqrt(weights[start + row]));
        chunkTotal += weights[start + row];
        for (let d = 0; d < dim; d++) chunk[row * dim + d] = fround(x[d] - centre[d]) * root;
      }
      total += chunkTotal;
      addChunk(moment, chunk, rows, dim);
    }
    finish(moment, dim, total);
  },
});

/** Adds chunk' * chunk, right of the diagonal: f32 sums over the chunk's rows, then f64. */
function addChunk(moment: Float64Array, chunk: Float32Array, rows: number, dim: number): void {
  for (let i = 0; i < dim; i++) {
    for (let j = i; j < dim; j++) {
      let sum = 0;
      for (let row = 0; row < rows; row++) sum = fround(sum + fround(chunk[row * dim + i] * chunk[row * dim + j]));
      moment[i * dim + j] += sum;
    }
  }
}

function finish(moment: Float64Array, dim: number, total: number): void {
  const scale = total > 0 ? 1 / total : 0;
  for (let i = 0; i < dim; i++) {
    for (let j = i; j < dim; j++) moment[j * dim + i] = moment[i * dim + j] *= scale;
  }
}
