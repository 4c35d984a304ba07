/** Rows of one head group to codes in planes and back: project, choose books, encode, pack; the same steps reversed. */
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { DISTORTION } from "./allocation.ts";
import { fitAnalysis } from "./analysis.ts";
import type { Basis } from "./basis.ts";
import { basisRows, codeBasis, type KeptChannels } from "./basis-codes.ts";
import { BookShelf, chooseBook, minMaxBook } from "./codebook.ts";
import type { ChannelBook, CodedGroup } from "./coded.ts";
import { BLOCK_TOKENS, blockCount, countWidths, roundUp } from "./layout.ts";
import type { CodecOptions } from "./options.ts";
import { packCodes, putCodes } from "./streams.ts";
import { putF32 } from "./tensors.ts";

export interface GroupInput {
  /** (rowCount, dim) f32. */
  rowsPtr: number;
  rowCount: number;
  /** Tokens that the basis will serve, where not rowCount: how finely its rows are coded. */
  basisTokens?: number;
  /** (dim) f32, or 0. */
  centrePtr: number;
  basis: Basis;
  /** Bits of each channel of the basis: (rank). */
  widths: Uint8Array;
  minMax: boolean;
  basisBits: CodecOptions["basisBits"];
}

/** Channels of a tile of `project`. */
const PROJECTED_AT_ONCE = 8;

export type CodedLatents = Pick<CodedGroup, "books" | "basis" | "planes" | "stream">;

export function encodeGroup(runtime: Runtime, input: GroupInput): CodedLatents {
  const { basis, rowCount } = input;
  const { widths, ...kept } = keptChannels(input.widths, basis);
  const coded = codeBasis(basis, kept, input.basisTokens ?? rowCount, input.basisBits);
  if (widths.length === 0) return { books: [], basis: coded, planes: new Uint8Array(0) };
  return runtime.heap.scratch((frame) => {
    const { latentsPtr, stride } = projectRows(runtime, frame, input, basisRows(coded, basis.dim));
    const { books, codesPtr } = encodeChannels(runtime, frame, latentsPtr, rowCount, stride, widths, input.minMax);
    return { books, basis: coded, planes: packCodes(runtime, codesPtr, countWidths(widths), rowCount) };
  });
}

/** Channels with bits, widths falling, stronger channels first among equals. */
export function keptChannels(widths: Uint8Array, { variance }: Basis): KeptChannels & { widths: number[] } {
  const channels = Array.from(widths.keys()).filter((channel) => widths[channel] > 0);
  channels.sort((a, b) => widths[b] - widths[a] || a - b);
  const errors = channels.map((channel) => variance[channel] * DISTORTION[widths[channel]]);
  return { channels, errors, widths: channels.map((channel) => widths[channel]) };
}

type Rows = Pick<GroupInput, "rowsPtr" | "rowCount" | "centrePtr" | "basis">;

/** Latents (channels, stride) f32 of the rows on synthesis rows (channels, dim), as a reader sees them; stride: whole blocks. */
export function projectRows(
  runtime: Runtime,
  frame: Frame,
  { rowsPtr, rowCount, centrePtr, basis }: Rows,
  synthesis: Float32Array,
): { latentsPtr: number; stride: number } {
  const { kernels, heap } = runtime;
  const stride = blockCount(rowCount) * BLOCK_TOKENS;
  const channels = synthesis.length / basis.dim;
  const analysis = fitAnalysis(runtime, synthesis, basis.dim, basis.roots);
  // The kernel takes channels eight at a time, and others alone, to the same bits: idle channels are cheaper.
  const padded = roundUp(channels, PROJECTED_AT_ONCE);
  const analysisPtr = putF32(heap, frame, widened(analysis, channels, padded));
  const latentsPtr = frame.reserve(4 * padded * stride);
  kernels.project(latentsPtr, rowsPtr, centrePtr, analysisPtr, rowCount, basis.dim, padded, stride);
  return { latentsPtr, stride };
}

/** Rows of `count` elements with zeros behind them, up to `padded`. */
function widened(matrix: Float32Array, count: number, padded: number): Float32Array {
  if (count === padded) return matrix;
  const rows = matrix.length / count;
  const wide = new Float32Array(rows * padded);
  for (let row = 0; row < rows; row++) wide.set(matrix.subarray(row * count, (row + 1) * count), row * padded);
  return wide;
}

/** Mean squares of the latents of the rows on their basis: (rank). */
export function latentSquares(runtime: Runtime, rows: Rows): Float64Array {
  const { kernels, heap } = runtime;
  const { rank, synthesis } = rows.basis;
  return heap.scratch((frame) => {
    const { latentsPtr, stride } = projectRows(runtime, frame, rows, synthesis);
    const extremesPtr = frame.reserve(8);
    const squares = (_: unknown, c: number): number =>
      kernels.channelStatistics(extremesPtr, latentsPtr + 4 * c * stride, rows.rowCount) / rows.rowCount;
    return Float64Array.from({ length: rank }, squares);
  });
}

function encodeChannels(
  runtime: Runtime,
  frame: Frame,
  latentsPtr: number,
  rowCount: number,
  stride: number,
  widths: number[],
  minMax: boolean,
): { books: ChannelBook[]; codesPtr: number } {
  const { kernels, heap } = runtime;
  const shelf = new BookShelf(runtime, frame);
  const extremesPtr = frame.reserve(8);
  const codesPtr = frame.reserve(widths.length * stride);
  heap.u8(codesPtr, widths.length * stride).fill(0);
  const books = widths.map((width, c) => {
    const valuesPtr = latentsPtr + 4 * c * stride;
    const w = width as ChannelBook["width"];
    const book = minMax
      ? minMaxBook(runtime, extremesPtr, valuesPtr, rowCount, w)
      : chooseBook(runtime, shelf, extremesPtr, valuesPtr, rowCount, w);
    kernels.encode(codesPtr + c * stride, shelf.open(book), valuesPtr, rowCount, width);
    return book;
  });
  return { books, codesPtr };
}

/** Address of (rowCount, dim) f32 rows in the caller's frame. */
export function decodeGroup(
  runtime: Runtime,
  frame: Frame,
  group: CodedLatents,
  dim: number,
  rowCount: number,
  centrePtr: number,
): number {
  const { kernels, heap } = runtime;
  const rowsPtr = frame.reserve(4 * rowCount * dim);
  const channels = group.books.length;
  const stride = blockCount(rowCount) * BLOCK_TOKENS;
  heap.scratch((inner) => {
    const latentsPtr = decodeLatents(runtime, inner, group, rowCount, stride);
    const synthesisPtr = putF32(heap, inner, basisRows(group.basis, dim));
    kernels.synthesize(rowsPtr, latentsPtr, centrePtr, synthesisPtr, rowCount, dim, channels, stride);
  });
  return rowsPtr;
}

/** Address of (channels, stride) f32 latents. */
function decodeLatents(runtime: Runtime, frame: Frame, group: CodedLatents, rowCount: number, stride: number): number {
  const { kernels } = runtime;
  const codesPtr = putCodes(runtime, frame, group, rowCount);
  const latentsPtr = frame.reserve(4 * group.books.length * stride);
  const shelf = new BookShelf(runtime, frame);
  group.books.forEach((book, c) => {
    kernels.decode(latentsPtr + 4 * c * stride, shelf.open(book), codesPtr + c * stride, stride, book.width);
  });
  return latentsPtr;
}
