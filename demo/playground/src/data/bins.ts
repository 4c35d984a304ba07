/** Many numbers to as many as a picture has room for. */

/** Elements a bin, so that `count` of them make at most `most` bins. */
export const binSize = (count: number, most: number): number => Math.max(1, Math.ceil(count / most));

/** Mean of each bin of `size` elements; the last may be shorter. */
export function binMeans(values: ArrayLike<number>, size: number): number[] {
  const means: number[] = [];
  for (let first = 0; first < values.length; first += size) {
    const end = Math.min(values.length, first + size);
    let sum = 0;
    for (let i = first; i < end; i++) sum += values[i];
    means.push(sum / (end - first));
  }
  return means;
}

/** A matrix (rows, columns) by blocks: means over rows of sums over columns. */
export function binMatrix(
  rows: number,
  columns: number,
  sizes: { row: number; column: number },
  rowOf: (row: number) => ArrayLike<number>,
): Float32Array {
  const outColumns = Math.ceil(columns / sizes.column);
  const out = new Float32Array(Math.ceil(rows / sizes.row) * outColumns);
  for (let row = 0; row < rows; row++) {
    const bin = Math.floor(row / sizes.row);
    const share = 1 / Math.min(sizes.row, rows - bin * sizes.row);
    const values = rowOf(row);
    for (let c = 0; c < values.length; c++) out[bin * outColumns + Math.floor(c / sizes.column)] += share * values[c];
  }
  return out;
}

/** |x - x'|^2 / |x|^2 of each token over all heads; tensors (heads, tokens, headDim). A token of zeros has no error. */
export function errorByToken(
  exact: Float32Array,
  coded: Float32Array,
  heads: number,
  headDim: number,
): Float64Array<ArrayBuffer> {
  const tokens = exact.length / heads / headDim;
  const errors = new Float64Array(tokens);
  for (let token = 0; token < tokens; token++) {
    let [error, energy] = [0, 0];
    for (let head = 0; head < heads; head++) {
      const first = (head * tokens + token) * headDim;
      for (let i = first; i < first + headDim; i++) {
        error += (exact[i] - coded[i]) ** 2;
        energy += exact[i] ** 2;
      }
    }
    errors[token] = energy > 0 ? error / energy : 0;
  }
  return errors;
}
