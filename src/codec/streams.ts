/**
 * Codes of a head group as streams, one of its leading channels and one of the rest. A stream is range codes of
 * RANGE_TOKENS tokens each (the last one of what is left), each behind its bytes as u32, the models going on from one to
 * the next. Channels of 8 bits first, as in planes.
 */
import { FormatError } from "../errors.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { joinChunks } from "./chunks.ts";
import type { CodedGroup, CodeStream } from "./coded.ts";
import {
  BLOCK_TOKENS,
  blockCount,
  channelCount,
  countWidths,
  MODEL,
  modelCount,
  PLANE_BYTES,
  planeCount,
  RANGE_TOKENS,
  rangeBytes,
  rangeScratchBytes,
  type WidthCounts,
} from "./layout.ts";
import { putBytes } from "./tensors.ts";

const SIZE_BYTES = 4;

const kindsOf = (counts: WidthCounts) => ({ wide: counts.count8, narrow: channelCount(counts) - counts.count8 });

/** codes (channels, stride) u8 at codesPtr, as `packPlanes` takes them; `tokens` of each channel. Half of the channels lead. */
export function encodeStream(
  runtime: Runtime,
  codesPtr: number,
  widths: number[],
  tokens: number,
  stride: number,
): CodeStream {
  const leading = Math.ceil(widths.length / 2);
  const [first, rest] = [widths.slice(0, leading), widths.slice(leading)].map(countWidths);
  return {
    leading,
    parts: [
      encodePart(runtime, codesPtr, first, tokens, stride),
      encodePart(runtime, codesPtr + leading * stride, rest, tokens, stride),
    ],
  };
}

function encodePart(
  runtime: Runtime,
  codesPtr: number,
  counts: WidthCounts,
  tokens: number,
  stride: number,
): Uint8Array {
  const { kernels, heap } = runtime;
  const { wide, narrow } = kindsOf(counts);
  if (wide + narrow === 0) return new Uint8Array(0);
  const parts: Uint8Array[] = [];
  heap.scratch((frame) => {
    const modelsPtr = freshModels(runtime, frame, wide, narrow);
    const most = Math.min(tokens, RANGE_TOKENS);
    const outPtr = frame.reserve(rangeBytes(wide, narrow, most));
    const scratchPtr = frame.reserve(rangeScratchBytes(wide, narrow, most));
    for (let first = 0; first < tokens; first += RANGE_TOKENS) {
      const count = Math.min(tokens - first, RANGE_TOKENS);
      const size = kernels.encodeRange(outPtr, scratchPtr, modelsPtr, codesPtr + first, wide, narrow, count, stride);
      const part = new Uint8Array(SIZE_BYTES + size);
      new DataView(part.buffer).setUint32(0, size, true);
      part.set(heap.u8(outPtr + rangeBytes(wide, narrow, count) - size, size), SIZE_BYTES);
      parts.push(part);
    }
  });
  return joinChunks(parts);
}

/** Writes the codes of `stream` where `encodeStream` read them. Throws FormatError where it is no such stream. */
export function decodeStream(
  runtime: Runtime,
  codesPtr: number,
  { leading, parts }: CodeStream,
  widths: number[],
  tokens: number,
  stride: number,
): void {
  const [first, rest] = [widths.slice(0, leading), widths.slice(leading)].map(countWidths);
  decodePart(runtime, codesPtr, parts[0], first, tokens, stride);
  decodePart(runtime, codesPtr + leading * stride, parts[1], rest, tokens, stride);
}

function decodePart(
  runtime: Runtime,
  codesPtr: number,
  stream: Uint8Array,
  counts: WidthCounts,
  tokens: number,
  stride: number,
): void {
  const { kernels, heap } = runtime;
  const { wide, narrow } = kindsOf(counts);
  if (wide + narrow === 0 && stream.length === 0) return;
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  heap.scratch((frame) => {
    const modelsPtr = freshModels(runtime, frame, wide, narrow);
    const most = rangeBytes(wide, narrow, Math.min(tokens, RANGE_TOKENS));
    const bytesPtr = frame.reserve(most);
    let at = 0;
    for (let first = 0; first < tokens; first += RANGE_TOKENS) {
      const count = Math.min(tokens - first, RANGE_TOKENS);
      const size = at + SIZE_BYTES <= stream.length ? view.getUint32(at, true) : -1;
      const end = at + SIZE_BYTES + size;
      if (size < 0 || size > most || end > stream.length) fail(first, `at most ${most} bytes`, size, at);
      heap.u8(bytesPtr, size).set(stream.subarray(at + SIZE_BYTES, end));
      const status = kernels.decodeRange(codesPtr + first, modelsPtr, bytesPtr, size, wide, narrow, count, stride);
      if (status !== 0) fail(first, `the range code of ${count} tokens`, "other bytes", at);
      at = end;
    }
    if (at !== stream.length) fail(tokens, "the stream's end", `${stream.length - at} more bytes`, at);
    expectInBooks(runtime, codesPtr, counts, tokens, stride, stream.length);
  });
}

function fail(token: number, expected: string, got: unknown, at: number): never {
  throw new FormatError(`stream of codes, token ${token}: expected ${expected}, got ${String(got)}`, at);
}

/** A nibble can say more than a channel of 1 or 2 bits has levels. */
function expectInBooks(
  { heap }: Runtime,
  codesPtr: number,
  { count8, count4, count2, count1 }: WidthCounts,
  tokens: number,
  stride: number,
  at: number,
): void {
  for (let c = 0; c < count2 + count1; c++) {
    const levels = c < count2 ? 4 : 2;
    const token = heap.u8(codesPtr + (count8 + count4 + c) * stride, tokens).findIndex((code) => code >= levels);
    if (token >= 0) fail(token, `a code below ${levels} in channel ${count8 + count4 + c}`, "a greater one", at);
  }
}

function freshModels(runtime: Runtime, frame: Frame, wide: number, narrow: number): number {
  const count = modelCount(wide, narrow);
  const modelsPtr = frame.reserve(MODEL.bytes * Math.max(1, count));
  runtime.kernels.resetModels(modelsPtr, count);
  return modelsPtr;
}

type Codes = Pick<CodedGroup, "books" | "planes" | "stream">;

/** Address of the group's codes (channels, stride) u8, zeros behind the last token; stride: whole blocks. */
export function putCodes(runtime: Runtime, frame: Frame, { books, planes, stream }: Codes, tokens: number): number {
  const { kernels, heap } = runtime;
  const widths = books.map((book) => book.width);
  const blocks = blockCount(tokens);
  const stride = blocks * BLOCK_TOKENS;
  const codesPtr = frame.reserve(books.length * stride);
  if (stream) {
    heap.u8(codesPtr, books.length * stride).fill(0);
    decodeStream(runtime, codesPtr, stream, widths, tokens, stride);
  } else {
    const { count8, count4, count2, count1 } = countWidths(widths);
    heap.scratch((inner) => {
      const planesPtr = putBytes(heap, inner, planes);
      kernels.unpackPlanes(codesPtr, planesPtr, count8, count4, count2, count1, blocks, stride);
    });
  }
  return codesPtr;
}

/** Planes of codes as `putCodes` gives them. */
export function packCodes(
  { kernels, heap }: Runtime,
  codesPtr: number,
  counts: WidthCounts,
  tokens: number,
): Uint8Array {
  const { count8, count4, count2, count1 } = counts;
  const blocks = blockCount(tokens);
  const bytes = blocks * planeCount(counts) * PLANE_BYTES;
  return heap.scratch((frame) => {
    const planesPtr = frame.reserve(bytes);
    kernels.packPlanes(planesPtr, codesPtr, count8, count4, count2, count1, blocks, blocks * BLOCK_TOKENS);
    return heap.u8(planesPtr, bytes).slice();
  });
}

/** The group with its codes in planes, as attention reads them. */
export function inPlanes(runtime: Runtime, group: CodedGroup, tokens: number): CodedGroup {
  const { stream, ...rest } = group;
  if (!stream) return group;
  const counts = countWidths(group.books.map((book) => book.width));
  const planes = runtime.heap.scratch((frame) =>
    packCodes(runtime, putCodes(runtime, frame, group, tokens), counts, tokens),
  );
  return { ...rest, planes };
}

/** The group with its codes as a stream. */
export function inStream(runtime: Runtime, group: CodedGroup, tokens: number): CodedGroup {
  if (group.stream) return group;
  const widths = group.books.map((book) => book.width);
  const stream = runtime.heap.scratch((frame) => {
    const stride = blockCount(tokens) * BLOCK_TOKENS;
    return encodeStream(runtime, putCodes(runtime, frame, group, tokens), widths, tokens, stride);
  });
  return { ...group, planes: new Uint8Array(0), stream };
}
