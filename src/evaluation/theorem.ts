/**
 * The theorem of SVDq (arXiv 2502.15304) as numbers on a real cache: keys before RoPE, centred; the squared error of
 * min-max codes in latent channels, bits by a schedule of eight equal groups, over the squared error of min-max codes
 * of the same mean bits in the original channels. The paper: 0.1 or lower where the spectrum falls fast.
 *
 * What the spectrum predicts. A min-max code of b bits cuts a channel's range r into 2^b - 1 steps and so has a mean
 * squared error of r^2 / (12 (2^b - 1)^2); a dropped channel has its variance v. Let all channels be k deviations wide,
 * r = k sqrt(v). The error then is v g(b) with
 *
 *   g(0) = 1,   g(b) = k^2 / (12 (2^b - 1)^2),
 *
 * and because a rotation keeps the sum of the variances,
 *
 *   predicted ratio = sum over latent channels c of v_c g(b_c)  /  (g(b) sum over c of v_c).
 *
 * k is taken from the original channels, k^2 = sum of r_d^2 / sum of v_d. The prediction fails upwards where some latent
 * channel is much wider than that (a few outlying tokens), and for 1-bit codes, whose levels are the two extremes; g
 * shows that those are worse than none from k = 3.5 on, which is why no schedule chosen by it has them.
 */
import { schedule } from "../codec/allocation.ts";
import { findBasis } from "../codec/basis.ts";
import { BookShelf, minMaxBook } from "../codec/codebook.ts";
import type { ChannelBook } from "../codec/coded.ts";
import type { Geometry } from "../codec/geometry.ts";
import { headGroups } from "../codec/groups.ts";
import { anchoredRows, type CodedRange } from "../codec/key-codec.ts";
import { BLOCK_TOKENS, blockCount, WIDTHS } from "../codec/layout.ts";
import type { Rotary } from "../codec/rotary.ts";
import { putF32 } from "../codec/tensors.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";

/** Mean bits of both sides: the least at which min-max codes of the original channels are of any use. */
export const THEOREM_BITS = 2;
const PARTS = 8;

export interface Theorem {
  /** Bits of the eight equal groups, leading first: of all with the right mean the one that the spectrum prefers. */
  schedule: number[];
  /** Mean squared error of a key element. */
  latentError: number;
  originalError: number;
  /** latentError over originalError; 0 where both are. */
  ratio: number;
  predicted: number;
}

export interface LayerSpectrum {
  /** Variances of all latent channels of the layer, group after group. */
  variance: Float64Array;
  theorem: Theorem;
}

/** Where a layer is measured. */
interface Desk {
  runtime: Runtime;
  /** Released when the layer is done. */
  frame: Frame;
  shelf: BookShelf;
  /** (2) f32. */
  extremesPtr: number;
  tokenCount: number;
  /** Elements between channels. */
  stride: number;
}

/** One head group in both coordinates, in linear memory: channels (dim, stride) f32, centred. */
interface Group {
  dim: number;
  variance: Float64Array;
  latentsPtr: number;
  originalPtr: number;
  /** k^2 of the original channels. */
  widthSquared: number;
}

/** Spectrum and theorem of one layer; keysPtr: (kvHeads, tokens, headDim) f32 after RoPE. */
export function measureKeys(
  runtime: Runtime,
  geometry: Geometry,
  rotary: Rotary,
  range: CodedRange,
  keysPtr: number,
): LayerSpectrum {
  return runtime.heap.scratch((frame) => {
    const desk: Desk = {
      runtime,
      frame,
      shelf: new BookShelf(runtime, frame),
      extremesPtr: frame.reserve(8),
      tokenCount: range.count,
      stride: blockCount(range.count) * BLOCK_TOKENS,
    };
    const groups = headGroups(geometry, "layer").map((group) =>
      runtime.heap.scratch((inner) => {
        const rowsPtr = anchoredRows(runtime, inner, geometry, rotary, 1, range, keysPtr, group);
        return openGroup(desk, inner, rowsPtr, group.headCount * geometry.headDim);
      }),
    );
    const variance = Float64Array.from(groups.flatMap((group) => [...group.variance]));
    return { variance, theorem: measureTheorem(desk, groups) };
  });
}

/** rowsPtr: (tokenCount, dim) f32, keys before RoPE; needed no longer than `inner`, as all but the channels. */
function openGroup(desk: Desk, inner: Frame, rowsPtr: number, dim: number): Group {
  const { runtime, tokenCount, stride } = desk;
  const { kernels, heap } = runtime;
  const meanPtr = inner.reserve(8 * dim);
  kernels.mean(meanPtr, rowsPtr, 0, tokenCount, dim);
  const centrePtr = putF32(heap, inner, heap.f64(meanPtr, dim).slice());
  const basis = findBasis(runtime, { rowsPtr, rowCount: tokenCount, dim, centrePtr, weightsPtr: 0, rank: dim });
  const channels = (analysis: Float32Array): number => {
    const ptr = desk.frame.reserve(4 * dim * stride);
    const analysisPtr = putF32(heap, inner, analysis);
    kernels.project(ptr, rowsPtr, centrePtr, analysisPtr, tokenCount, dim, dim, stride);
    return ptr;
  };
  // Without a metric the basis is orthonormal: its rows, as columns, are the analysis, and errors keep their size.
  const latentsPtr = channels(transposed(basis.synthesis, dim));
  const originalPtr = channels(identity(dim));
  return { dim, variance: basis.variance, latentsPtr, originalPtr, widthSquared: widthSquared(desk, originalPtr, dim) };
}

function transposed(matrix: Float32Array, n: number): Float32Array {
  return matrix.map((_, i) => matrix[(i % n) * n + Math.floor(i / n)]);
}

function identity(n: number): Float32Array {
  return new Float32Array(n * n).map((_, i) => (i % (n + 1) === 0 ? 1 : 0));
}

/** k^2: squared ranges over variances, summed over the channels. */
function widthSquared({ runtime, extremesPtr, tokenCount, stride }: Desk, channelsPtr: number, dim: number): number {
  let [ranges, variances] = [0, 0];
  for (let d = 0; d < dim; d++) {
    variances += runtime.kernels.channelStatistics(extremesPtr, channelsPtr + 4 * d * stride, tokenCount) / tokenCount;
    const [least, greatest] = runtime.heap.f32(extremesPtr, 2);
    ranges += (greatest - least) ** 2;
  }
  return variances > 0 ? ranges / variances : 0;
}

function measureTheorem(desk: Desk, groups: Group[]): Theorem {
  const chosen = bestSchedule(groups);
  let [latentError, originalError, elements] = [0, 0, 0];
  for (const { dim, latentsPtr, originalPtr } of groups) {
    latentError += squaredError(desk, latentsPtr, schedule(dim, chosen.schedule));
    originalError += squaredError(desk, originalPtr, new Uint8Array(dim).fill(THEOREM_BITS));
    elements += dim * desk.tokenCount;
  }
  const ratio = originalError > 0 ? latentError / originalError : 0;
  return { ...chosen, latentError: latentError / elements, originalError: originalError / elements, ratio };
}

/** Sum of squared errors of min-max codes of the channels; of a channel without bits its centre is left. */
function squaredError(desk: Desk, channelsPtr: number, widths: Uint8Array): number {
  const { runtime, shelf, extremesPtr, tokenCount, stride } = desk;
  let sum = 0;
  widths.forEach((width, c) => {
    const valuesPtr = channelsPtr + 4 * c * stride;
    if (width === 0) {
      sum += runtime.kernels.channelStatistics(extremesPtr, valuesPtr, tokenCount);
    } else {
      const book = minMaxBook(runtime, extremesPtr, valuesPtr, tokenCount, width as ChannelBook["width"]);
      sum += runtime.kernels.bookError(shelf.open(book), valuesPtr, tokenCount, 1, width);
    }
  });
  return sum;
}

// ------------------------------------------------------------------------------------------- prediction
type Spectrum = Pick<Group, "dim" | "variance" | "widthSquared">;

/** g of the head of this file. */
const expectedError = (bits: number, widthSquared: number): number =>
  bits === 0 ? 1 : widthSquared / (12 * (2 ** bits - 1) ** 2);

/** The predicted ratio of the head of this file, over all groups of a layer. */
export function predictedRatio(groups: readonly Spectrum[], widths: number[], bits: number): number {
  let [latent, original] = [0, 0];
  for (const { dim, variance, widthSquared } of groups) {
    const energy = variance.reduce((sum, v) => sum + v, 0);
    schedule(dim, widths).forEach((width, c) => {
      latent += variance[c] * expectedError(width, widthSquared);
    });
    original += energy * expectedError(bits, widthSquared);
  }
  return original > 0 ? latent / original : 0;
}

function bestSchedule(groups: readonly Spectrum[]): { schedule: number[]; predicted: number } {
  const all = schedulesOf(THEOREM_BITS * PARTS).map((widths) => ({
    schedule: widths,
    predicted: predictedRatio(groups, widths, THEOREM_BITS),
  }));
  return all.reduce((best, one) => (one.predicted < best.predicted ? one : best));
}

/** Every falling schedule of eight widths that sum to `total`. */
export function schedulesOf(total: number, parts = PARTS, most = Infinity): number[][] {
  if (parts === 0) return total === 0 ? [[]] : [];
  return WIDTHS.filter((width) => width <= Math.min(most, total)).flatMap((width) =>
    schedulesOf(total - width, parts - 1, width).map((rest) => [width, ...rest]),
  );
}
