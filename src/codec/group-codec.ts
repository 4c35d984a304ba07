/** Rows of one head group to codes in planes and back: project, choose books, encode, pack; the same steps reversed. */
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { fitAnalysis } from "./analysis.ts";
import type { Basis } from "./basis.ts";
import { basisRows, codeBasis, type KeptChannels } from "./basis-codes.ts";
import { BookShelf, chooseBook, minMaxBook } from "./codebook.ts";
import type { ChannelBook, CodedGroup } from "./coded.ts";
import { BLOCK_TOKENS, blockCount, countWidths, PLANE_BYTES, planeCount } from "./layout.ts";
import type { CodecOptions } from "./options.ts";
import { putBytes, putF32 } from "./tensors.ts";

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

export type CodedLatents = Pick<CodedGroup, "books" | "basis" | "planes">;

export function encodeGroup(runtime: Runtime, input: GroupInput): CodedLatents {
  const { kernels, heap } = runtime;
  const { basis, widths, rowCount } = input;
  const kept = keptChannels(widths);
  const coded = codeBasis(basis, kept, input.basisTokens ?? rowCount, input.basisBits);
  if (kept.widths.length === 0) return { books: [], basis: coded, planes: new Uint8Array(0) };
  return heap.scratch((frame) => {
    const stride = blockCount(rowCount) * BLOCK_TOKENS;
    const analysis = fitAnalysis(runtime, basisRows(coded, basis.dim), basis.dim, basis.roots);
    const analysisPtr = putF32(heap, frame, analysis);
    const latentsPtr = frame.reserve(4 * kept.widths.length * stride);
    kernels.project(
      latentsPtr,
      input.rowsPtr,
      input.centrePtr,
      analysisPtr,
      rowCount,
      basis.dim,
      kept.widths.length,
      stride,
    );
    const { books, codesPtr } = encodeChannels(runtime, frame, latentsPtr, rowCount, stride, kept.widths, input.minMax);
    return { books, basis: coded, planes: pack(runtime, frame, codesPtr, kept.widths, rowCount, stride) };
  });
}

/** Channels with bits, widths falling, stronger channels first among equals. */
export function keptChannels(widths: Uint8Array): KeptChannels {
  const channels = Array.from(widths.keys()).filter((channel) => widths[channel] > 0);
  channels.sort((a, b) => widths[b] - widths[a] || a - b);
  return { channels, widths: channels.map((channel) => widths[channel]) };
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

function pack(
  runtime: Runtime,
  frame: Frame,
  codesPtr: number,
  widths: number[],
  rowCount: number,
  stride: number,
): Uint8Array {
  const { count8, count4, count2, count1 } = countWidths(widths);
  const blocks = blockCount(rowCount);
  const bytes = blocks * planeCount({ count8, count4, count2, count1 }) * PLANE_BYTES;
  const planesPtr = frame.reserve(bytes);
  runtime.kernels.packPlanes(planesPtr, codesPtr, count8, count4, count2, count1, blocks, stride);
  return runtime.heap.u8(planesPtr, bytes).slice();
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
    const latentsPtr = decodeLatents(runtime, inner, group, stride);
    const synthesisPtr = putF32(heap, inner, basisRows(group.basis, dim));
    kernels.synthesize(rowsPtr, latentsPtr, centrePtr, synthesisPtr, rowCount, dim, channels, stride);
  });
  return rowsPtr;
}

/** Address of (channels, stride) f32 latents. */
function decodeLatents(runtime: Runtime, frame: Frame, group: CodedLatents, stride: number): number {
  const { kernels, heap } = runtime;
  const { count8, count4, count2, count1 } = countWidths(group.books.map((book) => book.width));
  const codesPtr = frame.reserve(group.books.length * stride);
  const planesPtr = putBytes(heap, frame, group.planes);
  kernels.unpackPlanes(codesPtr, planesPtr, count8, count4, count2, count1, stride / BLOCK_TOKENS, stride);
  const latentsPtr = frame.reserve(4 * group.books.length * stride);
  const shelf = new BookShelf(runtime, frame);
  group.books.forEach((book, c) => {
    kernels.decode(latentsPtr + 4 * c * stride, shelf.open(book), codesPtr + c * stride, stride, book.width);
  });
  return latentsPtr;
}
