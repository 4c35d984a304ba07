/**
 * Queries in latent space as the keys of each span meet them: rotated back by the anchors, projected on the slice of the
 * synthesis rows. Where rotary pairs have spans of their own, each part of the pairs is projected once for each of its
 * own anchors, and a short span's latents begin with those of the longer ones that it lies in: slow pairs, which are
 * most, are projected least often.
 */
import { type AnchorPart, anchorOf } from "../codec/anchors.ts";
import { roundUp } from "../codec/layout.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { AttendCall, Segment } from "./attention.ts";

/** Latents of the parts so far: (columns, stride) f32, query q at anchor a in column a * count + q. */
interface Latents {
  ptr: number;
  stride: number;
  anchors: number[];
  /** Number in `anchors` for each of the shortest spans. */
  places: number[];
}

/**
 * Latents (columns, stride) f32 of `count` queries at each of `tokens`, the first tokens of the shortest spans, rising.
 * Sums: part by part, longest spans first, each part's own sum in the order of its dimensions. slicePtr: (headDim,
 * columns) f32 in the order of the anchors' parts. Columns behind the last query up to a multiple of 4 are written.
 */
export function latentQueries(
  { runtime, layer }: AttendCall,
  { position }: Segment,
  slicePtr: number,
  queryPtr: number,
  count: number,
  tokens: number[],
  outPtr: number,
  columns: number,
  stride: number,
): void {
  const { kernels, heap } = runtime;
  const { parts, headDim } = layer.anchors;
  heap.scratch((frame) => {
    const queries = heap.f32(queryPtr, count * headDim).slice();
    let before: Latents | undefined;
    let fromPtr = slicePtr;
    for (const [i, part] of parts.entries()) {
      const { anchors, places } = anchorsAt(tokens, part);
      const rows = roundUp(anchors.length * count, 4);
      const isLast = i === parts.length - 1;
      const latents: Latents = {
        ptr: isLast ? outPtr : frame.reserve(4 * columns * rows),
        stride: isLast ? stride : rows,
        anchors,
        places,
      };
      const rowsPtr = putRows(runtime, frame, queries, part, headDim, anchors.length, count);
      if (part.span !== null) turnBack(runtime, rowsPtr, layer.rotaryPtrs[i], position, anchors, count);
      kernels.project(latents.ptr, rowsPtr, 0, fromPtr, rows, part.dims.length, columns, latents.stride);
      if (before) addBefore(runtime, latents, before, columns, count);
      before = latents;
      fromPtr += 4 * part.dims.length * columns;
    }
  });
}

/** The anchors of a part that the tokens have, each once. */
function anchorsAt(tokens: number[], { span }: AnchorPart): Pick<Latents, "anchors" | "places"> {
  const anchors: number[] = [];
  const places = tokens.map((token) => {
    const anchor = anchorOf(token, span);
    if (anchors[anchors.length - 1] !== anchor) anchors.push(anchor);
    return anchors.length - 1;
  });
  return { anchors, places };
}

/** Address of (times * count, dims of the part) f32, zeros up to a multiple of 4 rows: the queries, `times` times. */
function putRows(
  { heap }: Runtime,
  frame: Frame,
  queries: Float32Array,
  { dims }: AnchorPart,
  headDim: number,
  times: number,
  count: number,
): number {
  const size = dims.length * count;
  const length = dims.length * roundUp(times * count, 4);
  const ptr = frame.reserve(4 * length);
  const rows = heap.f32(ptr, length);
  for (let q = 0, at = 0; q < count; q++) {
    for (let d = 0; d < dims.length; d++) rows[at++] = queries[q * headDim + dims[d]];
  }
  for (let i = 1; i < times; i++) rows.copyWithin(i * size, 0, size);
  rows.fill(0, times * size);
  return ptr;
}

/** Rotates rows (anchors, count, dims) back by each anchor. */
function turnBack(
  { kernels, heap }: Runtime,
  rowsPtr: number,
  rotaryPtr: number,
  position: number,
  anchors: number[],
  count: number,
): void {
  heap.scratch((frame) => {
    const turnsPtr = frame.reserve(4 * anchors.length);
    const turns = heap.i32(turnsPtr, anchors.length);
    for (let i = 0; i < anchors.length; i++) turns[i] = -(position + anchors[i]);
    kernels.rotate(rowsPtr, rowsPtr, turnsPtr, rotaryPtr, anchors.length, count);
  });
}

/** Adds to each anchor's latents those of the longer spans that it lies in, before + own. */
function addBefore({ heap }: Runtime, own: Latents, before: Latents, columns: number, count: number): void {
  const width = own.anchors.length * count;
  const from = new Int32Array(width);
  own.places.forEach((place, i) => {
    for (let q = 0; q < count; q++) from[place * count + q] = before.places[i] * count + q;
  });
  const to = heap.f32(own.ptr, columns * own.stride);
  const sums = heap.f32(before.ptr, columns * before.stride);
  for (let c = 0; c < columns; c++) {
    const [at, first] = [c * own.stride, c * before.stride];
    for (let j = 0; j < width; j++) to[at + j] += sums[first + from[j]];
  }
}
