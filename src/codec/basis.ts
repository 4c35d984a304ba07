/**
 * The basis of a head group: eigenvectors of the second moment of its rows, leading first. Keys are centred and, where
 * queries are known, whitened by their metric before and unwhitened after; directions of values are neither.
 */
import { ConvergenceError } from "../errors.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { eigenScratchBytes, leadingScratchBytes, momentScratchBytes, roundUp } from "./layout.ts";
import type { MetricRoot } from "./metric.ts";

/** Plain data; `rank` channels of `dim` elements, variances falling. */
export interface Basis {
  dim: number;
  rank: number;
  /** f64 (rank). Units of the row's square, or of a logit's variance where a metric was given. */
  variance: Float64Array;
  /** Sum of all variances, also of channels beyond the rank. */
  energy: number;
  /** (rank, dim): latent c = analysis row c · (row - centre). */
  analysis: Float32Array;
  /** (rank, dim): row = centre + sum of latent c * synthesis row c. */
  synthesis: Float32Array;
}

/** From this dimension on only the leading channels are looked for. */
const TRUNCATE_FROM = 512;
const OVERSAMPLE = 32;
const ITERATIONS = 2;

/** Channels worth finding for a mean of `bits`: at 1.25 bits about half of all channels are kept (codec.md). */
export function rankFor(dim: number, bits: number): number {
  if (dim < TRUNCATE_FROM) return dim;
  return Math.min(dim, roundUp(Math.ceil(dim * (0.2 + 0.16 * bits)), 8));
}

export interface BasisInput {
  /** (rowCount, dim) f32. */
  rowsPtr: number;
  rowCount: number;
  dim: number;
  /** (dim) f32, or 0. */
  centrePtr: number;
  /** (rowCount) f32, or 0. */
  weightsPtr: number;
  /** A root a head, or none. */
  metric?: MetricRoot[] | undefined;
  rank: number;
}

export function findBasis(runtime: Runtime, input: BasisInput): Basis {
  const { kernels, heap } = runtime;
  const { dim, metric } = input;
  return heap.scratch((frame) => {
    const momentPtr = frame.reserve(8 * dim * dim);
    const scratchPtr = frame.reserve(momentScratchBytes(dim));
    kernels.secondMoment(momentPtr, input.rowsPtr, input.centrePtr, input.weightsPtr, scratchPtr, input.rowCount, dim);
    if (metric) whiten(runtime, frame, momentPtr, dim, metric);
    const moment = heap.f64(momentPtr, dim * dim);
    let energy = 0;
    for (let i = 0; i < dim; i++) energy += moment[i * (dim + 1)];
    const { variance, vectors, rank } = eigenvectors(runtime, frame, momentPtr, dim, input.rank);
    const plain = Float32Array.from(vectors);
    if (!metric) return { dim, rank, variance, energy, analysis: plain, synthesis: plain };
    const blocks = (pick: (m: MetricRoot) => Float64Array): Float32Array =>
      Float32Array.from(multiplyBlocks(runtime, vectors, rank, dim, metric.map(pick)));
    return { dim, rank, variance, energy, analysis: blocks((m) => m.root), synthesis: blocks((m) => m.inverse) };
  });
}

/** moment = A moment A with A the block diagonal of the roots. */
function whiten(runtime: Runtime, frame: Frame, momentPtr: number, dim: number, metric: MetricRoot[]): void {
  const { kernels, heap } = runtime;
  const productPtr = frame.reserve(8 * dim * dim);
  const roots = metric.map((m) => m.root);
  // Both factors are symmetric: A M A = ((M A)' A), and (M A)' is a transpose away.
  for (let side = 0; side < 2; side++) {
    const product = multiplyBlocks(runtime, heap.f64(momentPtr, dim * dim).slice(), dim, dim, roots);
    heap.f64(productPtr, dim * dim).set(product);
    kernels.transpose(momentPtr, productPtr, dim, dim);
  }
}

/** matrix (rows, dim) times a block diagonal of square blocks. */
function multiplyBlocks(
  runtime: Runtime,
  matrix: Float64Array,
  rows: number,
  dim: number,
  blocks: Float64Array[],
): Float64Array {
  const { kernels, heap } = runtime;
  const size = dim / blocks.length;
  const out = new Float64Array(rows * dim);
  return heap.scratch((frame) => {
    const [inPtr, outPtr] = [frame.reserve(8 * rows * size), frame.reserve(8 * rows * size)];
    const blockPtr = frame.reserve(8 * size * size);
    blocks.forEach((block, index) => {
      const part = heap.f64(inPtr, rows * size);
      for (let i = 0; i < rows; i++)
        part.set(matrix.subarray(i * dim + index * size, i * dim + (index + 1) * size), i * size);
      heap.f64(blockPtr, size * size).set(block);
      kernels.multiply(outPtr, inPtr, blockPtr, rows, size, size);
      const product = heap.f64(outPtr, rows * size);
      for (let i = 0; i < rows; i++) out.set(product.subarray(i * size, (i + 1) * size), i * dim + index * size);
    });
    return out;
  });
}

function eigenvectors(
  runtime: Runtime,
  frame: Frame,
  momentPtr: number,
  dim: number,
  wanted: number,
): { variance: Float64Array; vectors: Float64Array; rank: number } {
  const { kernels, heap } = runtime;
  const truncated = wanted + OVERSAMPLE < dim;
  const rank = truncated ? wanted : dim;
  const held = truncated ? wanted + OVERSAMPLE : dim;
  const scratchBytes = truncated ? leadingScratchBytes(dim, wanted, OVERSAMPLE) : eigenScratchBytes(dim);
  const [valuesPtr, vectorsPtr] = [frame.reserve(8 * held), frame.reserve(8 * held * dim)];
  const scratchPtr = frame.reserve(scratchBytes);
  const sweeps = truncated
    ? kernels.leadingEigen(valuesPtr, vectorsPtr, momentPtr, scratchPtr, dim, wanted, OVERSAMPLE, ITERATIONS)
    : kernels.eigen(valuesPtr, vectorsPtr, momentPtr, scratchPtr, dim);
  if (sweeps < 0) throw new ConvergenceError(`eigenvectors of a ${dim} x ${dim} second moment: status ${sweeps}`);
  return { rank, variance: heap.f64(valuesPtr, rank).slice(), vectors: heap.f64(vectorsPtr, rank * dim).slice() };
}
