/**
 * TurboQuant, the variant for mean squared error: rotate each token of each head by one random rotation, store its
 * norm in f16, and code every coordinate of the direction with the best scalar quantizer. After the rotation all
 * coordinates of a direction are alike, close to N(0, 1 / headDim), whatever the data was: no calibration, no outliers.
 * A. Zandieh et al., "TurboQuant: Online Vector Quantization with Near-optimal Distortion Rate", 2025, arXiv 2504.19874,
 * algorithm 1. The paper codes against the exact Beta distribution of a coordinate; from headDim 64 on the normal that
 * it tends to is as good. The norm here is the root mean square, so that coordinates have variance 1.
 *
 *   bytes   norms (heads, tokens) f16 | codes (heads, tokens, headDim), dense
 */
import { LLOYD_MAX } from "../codec/lloyd-max.ts";
import { type Baseline, checkBytes, checkTensor, elementCount, type TensorShape } from "./baseline.ts";
import { getHalf, packBits, packedBytes, putHalf, unpackBits } from "./bits.ts";
import { randomRotation } from "./rotation.ts";

const NORM_BYTES = 2;

/** The rotation's luck moves KL by some per cent; see test/baselines/turboquant.test.ts. */
export const DEFAULT_SEED = 0;

/** out (dim) = row (dim), read from `first`, times matrix (dim, dim); four rows of the matrix a pass over out. */
function rotateRow(out: Float64Array, row: ArrayLike<number>, first: number, matrix: Float64Array, dim: number): void {
  const whole = dim - (dim % 4);
  out.fill(0);
  for (let i = 0, at = 0; i < whole; i += 4, at += 4 * dim) {
    const x0 = row[first + i];
    const x1 = row[first + i + 1];
    const x2 = row[first + i + 2];
    const x3 = row[first + i + 3];
    for (let j = 0, m = at; j < dim; j++, m++) {
      out[j] += x0 * matrix[m] + x1 * matrix[m + dim] + x2 * matrix[m + 2 * dim] + x3 * matrix[m + 3 * dim];
    }
  }
  for (let i = whole; i < dim; i++) for (let j = 0; j < dim; j++) out[j] += row[first + i] * matrix[i * dim + j];
}

function rootMeanSquare(values: Float32Array, first: number, dim: number): number {
  let sum = 0;
  for (let i = first; i < first + dim; i++) sum += values[i] * values[i];
  return Math.sqrt(sum / dim);
}

/** Number of thresholds (2^bits - 1, rising) below x. */
function codeOf(x: number, thresholds: Float64Array, halfLevels: number): number {
  let code = 0;
  for (let step = halfLevels; step > 0; step >>= 1) if (x > thresholds[code + step - 1]) code += step;
  return code;
}

function transposed(matrix: Float64Array, dim: number): Float64Array {
  return matrix.map((_, i) => matrix[(i % dim) * dim + Math.floor(i / dim)]);
}

/** TurboQuant (MSE) at 2, 3 or 4 bits. The decoder makes the same rotation from the seed. */
export function turboquant(kind: "key" | "value", bits: 2 | 3 | 4, seed = DEFAULT_SEED): Baseline {
  const levels = LLOYD_MAX[bits].centroids;
  const thresholds = levels.slice(1).map((x, i) => (x + levels[i]) / 2);
  const sideBytes = (shape: TensorShape): number => shape.heads * shape.tokens * NORM_BYTES;
  return {
    name: `${kind === "key" ? "K" : "V"} TurboQuant ${bits}`,
    kind,
    encode(values, shape) {
      checkTensor(values, shape);
      const { headDim } = shape;
      const side = sideBytes(shape);
      const bytes = new Uint8Array(side + packedBytes(values.length, bits));
      const codes = new Uint8Array(values.length);
      const rotation = randomRotation(headDim, seed);
      const rotated = new Float64Array(headDim);
      for (let first = 0, at = 0; at < side; first += headDim, at += NORM_BYTES) {
        const norm = rootMeanSquare(values, first, headDim);
        putHalf(bytes, at, norm);
        rotateRow(rotated, values, first, rotation, headDim);
        const inverse = norm > 0 ? 1 / norm : 0;
        for (let j = 0; j < headDim; j++) {
          codes[first + j] = codeOf(rotated[j] * inverse, thresholds, levels.length / 2);
        }
      }
      packBits(bytes, side, codes, bits);
      return bytes;
    },
    decode(bytes, shape) {
      const { headDim } = shape;
      const side = sideBytes(shape);
      checkBytes(bytes, side + packedBytes(elementCount(shape), bits), shape);
      const values = new Float32Array(elementCount(shape));
      const codes = unpackBits(bytes, side, values.length, bits);
      const back = transposed(randomRotation(headDim, seed), headDim);
      const direction = new Float64Array(headDim);
      const row = new Float64Array(headDim);
      for (let first = 0, at = 0; at < side; first += headDim, at += NORM_BYTES) {
        const norm = getHalf(bytes, at);
        for (let j = 0; j < headDim; j++) direction[j] = levels[codes[first + j]];
        rotateRow(row, direction, 0, back, headDim);
        for (let j = 0; j < headDim; j++) values[first + j] = row[j] * norm;
      }
      return values;
    },
  };
}
