/**
 * A codebook a channel: the one of least squared error among Lloyd-Max centroids at several scales and even steps at
 * several clips (a fixed scale loses threefold, min-max twentyfold at 1 or 2 bits). Lloyd 1982,
 * Max 1960.
 */
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { BookKind, ChannelBook } from "./coded.ts";
import { BOOK } from "./layout.ts";
import { LLOYD_MAX } from "./lloyd-max.ts";

const NORMAL_SCALES = [0.8, 0.9, 1, 1.1, 1.25, 1.5, 2];
const UNIFORM_CLIPS = [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3];
/** Tried on the best of those. */
const REFINEMENTS = [0.94, 0.97, 1.03, 1.06];
/** Tokens that the search looks at. */
const PROBE_TOKENS = 1024;

const evenSteps = (bits: number): Float32Array => {
  const last = 2 ** bits - 1;
  return Float32Array.from({ length: last + 1 }, (_, i) => (2 * i - last) / last);
};

/** Unit levels, rising: (2^bits). */
const UNITS: Record<BookKind, Partial<Record<number, Float32Array>>> = {
  normal: {
    1: Float32Array.from(LLOYD_MAX[1].centroids),
    2: Float32Array.from(LLOYD_MAX[2].centroids),
    4: Float32Array.from(LLOYD_MAX[4].centroids),
  },
  uniform: { 1: evenSteps(1), 2: evenSteps(2), 4: evenSteps(4), 8: evenSteps(8) },
};

/** Books in linear memory, one at a time: fills it before a kernel reads it. */
export class BookShelf {
  readonly ptr: number;
  readonly #runtime: Runtime;
  readonly #units = new Map<Float32Array, number>();

  constructor(runtime: Runtime, frame: Frame) {
    this.#runtime = runtime;
    this.ptr = frame.reserve(BOOK.bytes);
    for (const units of [...Object.values(UNITS.normal), ...Object.values(UNITS.uniform)] as Float32Array[]) {
      const ptr = frame.reserve(units.byteLength);
      runtime.heap.f32(ptr, units.length).set(units);
      this.#units.set(units, ptr);
    }
  }

  /** Prepares `book`; kernels then take `ptr`. */
  open(book: ChannelBook): number {
    const units = UNITS[book.kind][book.width] as Float32Array;
    this.#runtime.kernels.prepareBook(this.ptr, this.#units.get(units) as number, book.width, book.scale, book.offset);
    return this.ptr;
  }
}

/** The book of least error for a channel of `count` f32 latents at `valuesPtr`. */
export function chooseBook(
  runtime: Runtime,
  shelf: BookShelf,
  extremesPtr: number,
  valuesPtr: number,
  count: number,
  width: ChannelBook["width"],
): ChannelBook {
  const { kernels } = runtime;
  const squares = kernels.channelStatistics(extremesPtr, valuesPtr, count);
  const [least, greatest] = runtime.heap.f32(extremesPtr, 2);
  const deviation = Math.sqrt(squares / count);
  const top = Math.max(Math.abs(least), Math.abs(greatest));
  const stride = Math.max(1, Math.floor(count / PROBE_TOKENS));
  let best: ChannelBook = { width, kind: "uniform", scale: Math.fround(top), offset: 0 };
  let bestError = Infinity;
  const consider = (book: ChannelBook): void => {
    const error = kernels.bookError(shelf.open(book), valuesPtr, Math.ceil(count / stride), stride, width);
    if (error < bestError) [best, bestError] = [book, error];
  };
  candidates(width, deviation, top).forEach(consider);
  const { kind, scale } = best;
  for (const factor of REFINEMENTS) consider({ width, kind, scale: Math.fround(scale * factor), offset: 0 });
  return best;
}

function candidates(width: ChannelBook["width"], deviation: number, top: number): ChannelBook[] {
  const of = (kind: BookKind, scale: number): ChannelBook => ({ width, kind, scale: Math.fround(scale), offset: 0 });
  const normal = UNITS.normal[width] ? NORMAL_SCALES.map((s) => of("normal", deviation * s)) : [];
  return [...normal, ...UNIFORM_CLIPS.map((s) => of("uniform", top * s))];
}

/** The SVDq paper's book: even steps from the least to the greatest latent. */
export function minMaxBook(
  runtime: Runtime,
  extremesPtr: number,
  valuesPtr: number,
  count: number,
  width: ChannelBook["width"],
): ChannelBook {
  runtime.kernels.channelStatistics(extremesPtr, valuesPtr, count);
  const [least, greatest] = runtime.heap.f32(extremesPtr, 2);
  return {
    width,
    kind: "uniform",
    scale: Math.fround((greatest - least) / 2),
    offset: Math.fround((greatest + least) / 2),
  };
}
