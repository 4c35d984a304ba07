/**
 * The basis of a head group: eigenvectors of the second moment of its rows, leading first. Keys are centred,
 * directions of values are not; where a metric is known, rows are whitened by it before and unwhitened after.
 */
import { ConvergenceError } from "../errors.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { multiplyBlocks } from "./analysis.ts";
import type { CodedBasis } from "./coded.ts";
import { eigenScratchBytes, leadingScratchBytes, momentScratchBytes, roundUp } from "./layout.ts";
import type { MetricRoot } from "./metric-root.ts";

/** Plain data; `rank` channels of `dim` elements, variances falling. */
export interface Basis {
  dim: number;
  rank: number;
  /** f64 (rank). Units of the row's square, or of the metric's where one was given. */
  variance: Float64Array;
  /** Where rows were weighted: (rank), the mean squares of the latents of all rows alike, in the units of the variance. */
  spread?: Float64Array;
  /** Sum of all variances, also of channels beyond the rank. */
  energy: number;
  /** (rank, dim): row = centre + sum of latent c * synthesis row c. */
  synthesis: Float32Array;
  /** The synthesis rows in few bits, where they are those of a profile and not to be rounded anew. */
  coded?: CodedBasis;
  /** M^½ of each kv head where a metric was given, see metric-root.ts. */
  roots?: Float64Array[];
}

/** From this dimension on only the leading channels are looked for. */
const TRUNCATE_FROM = 1024;
const OVERSAMPLE = 32;
const ITERATIONS = 2;

/** Where layers share bits by what their errors cost, some get twice the mean and more. */
const SHARED = 2;

/** Channels worth finding for a mean of `bits`: at 1.25 bits about half of all channels are kept. */
export function rankFor(dim: number, bits: number, shared = false): number {
  if (dim < TRUNCATE_FROM) return dim;
  const most = shared ? SHARED * bits : bits;
  return Math.min(dim, roundUp(Math.ceil(dim * (0.2 + 0.16 * most)), 8));
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
  const { dim } = input;
  return heap.scratch((frame) => {
    const momentPtr = frame.reserve(8 * dim * dim);
    const scratchPtr = frame.reserve(momentScratchBytes(dim));
    kernels.secondMoment(momentPtr, input.rowsPtr, input.centrePtr, input.weightsPtr, scratchPtr, input.rowCount, dim);
    return basisOfMoment(runtime, momentPtr, dim, input.rank, input.metric);
  });
}

/** The same of a second moment (dim, dim) f64, which is destroyed. */
export function basisOfMoment(
  runtime: Runtime,
  momentPtr: number,
  dim: number,
  wanted: number,
  metric?: MetricRoot[],
): Basis {
  const { heap } = runtime;
  return heap.scratch((frame) => {
    const roots = metric?.map((m) => m.root);
    if (roots) whiten(runtime, frame, momentPtr, dim, roots);
    const moment = heap.f64(momentPtr, dim * dim);
    let energy = 0;
    for (let i = 0; i < dim; i++) energy += moment[i * (dim + 1)];
    const { variance, vectorsPtr, rank } = eigenvectors(runtime, frame, momentPtr, dim, wanted);
    const inverses = metric?.map((m) => m.inverse);
    if (inverses) multiplyBlocks(runtime, vectorsPtr, rank, dim, inverses);
    const synthesis = new Float32Array(heap.f64(vectorsPtr, rank * dim));
    return { dim, rank, variance, energy, synthesis, ...(roots && { roots }) };
  });
}

/** moment = A moment A with A the block diagonal of the roots. */
function whiten(runtime: Runtime, frame: Frame, momentPtr: number, dim: number, roots: Float64Array[]): void {
  const transposedPtr = frame.reserve(8 * dim * dim);
  // Both factors are symmetric: A M A = ((M A)' A)', and a transpose of a symmetric matrix is itself.
  multiplyBlocks(runtime, momentPtr, dim, dim, roots);
  runtime.kernels.transpose(transposedPtr, momentPtr, dim, dim);
  multiplyBlocks(runtime, transposedPtr, dim, dim, roots);
  runtime.heap.f64(momentPtr, dim * dim).set(runtime.heap.f64(transposedPtr, dim * dim));
}

function eigenvectors(
  runtime: Runtime,
  frame: Frame,
  momentPtr: number,
  dim: number,
  wanted: number,
): { variance: Float64Array; vectorsPtr: number; rank: number } {
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
  return { rank, variance: heap.f64(valuesPtr, rank).slice(), vectorsPtr };
}
