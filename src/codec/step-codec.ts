/**
 * Rows of one head group to a stream of codes in even steps, one step for all channels. The steps are wide enough for
 * planes too: a channel has 2, 4 or 8 bits, as many as its greatest code needs.
 */
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { basisRows, codeBasis, pickRows } from "./basis-codes.ts";
import type { ChannelBook } from "./coded.ts";
import { type CodedLatents, type GroupInput, projectRows } from "./group-codec.ts";
import { ROUNDING } from "./step-rates.ts";
import { keptAt } from "./steps.ts";
import { encodeStream } from "./streams.ts";

export interface StepInput extends Omit<GroupInput, "widths" | "minMax"> {
  /** Common to all bases, in the square root of the variances' units. */
  step: number;
}

/** Codes of a width stand for -zero … last - zero steps. */
const PLACES = [
  { width: 2, zero: 1, last: 3 },
  { width: 4, zero: 7, last: 15 },
  { width: 8, zero: 127, last: 255 },
] as const;

interface Channel {
  /** Number among the rows of the coded basis. */
  row: number;
  book: ChannelBook;
}

export function encodeGroupInSteps(runtime: Runtime, input: StepInput): CodedLatents {
  const { heap } = runtime;
  const { basis, rowCount, step } = input;
  const kept = keptAt(basis, step, rowCount);
  const coded = codeBasis(basis, kept, input.basisTokens ?? rowCount, input.basisBits);
  return heap.scratch((frame) => {
    const rows = kept.channels.length;
    const { latentsPtr, stride } = projectRows(runtime, frame, input, basisRows(coded, basis.dim));
    const codesPtr = frame.reserve(rows * stride);
    const channels = Array.from({ length: rows }, (_, row) => {
      const valuesPtr = latentsPtr + 4 * row * stride;
      return { row, book: encodeChannel(runtime, frame, codesPtr + row * stride, valuesPtr, rowCount, step) };
    })
      .filter((channel): channel is Channel => channel.book !== undefined)
      .sort((a, b) => b.book.width - a.book.width || a.row - b.row);
    const sortedPtr = frame.reserve(channels.length * stride);
    channels.forEach(({ row }, i) => {
      heap.u8(sortedPtr + i * stride, rowCount).set(heap.u8(codesPtr + row * stride, rowCount));
    });
    const books = channels.map(({ book }) => book);
    const widths = books.map(({ width }) => width);
    const stream = encodeStream(runtime, sortedPtr, widths, rowCount, stride);
    return {
      books,
      basis: pickRows(
        coded,
        channels.map(({ row }) => row),
        basis.dim,
      ),
      planes: new Uint8Array(0),
      stream,
    };
  });
}

/** Codes of one channel, and the book of the levels of least squares; undefined where all codes are 0. */
function encodeChannel(
  { kernels, heap }: Runtime,
  frame: Frame,
  codesPtr: number,
  valuesPtr: number,
  count: number,
  step: number,
): ChannelBook | undefined {
  const sumsPtr = frame.reserve(16);
  kernels.channelStatistics(sumsPtr, valuesPtr, count);
  const [least, greatest] = heap.f32(sumsPtr, 2);
  const place =
    PLACES.find(({ zero, last }) => fits(-least, zero, step) && fits(greatest, last - zero, step)) ?? PLACES[2];
  const { width, zero, last } = place;
  // A channel beyond 8 bits has steps of its own.
  const own = Math.fround(Math.max(step, Math.max(-least, greatest) / zero));
  kernels.encodeSteps(codesPtr, sumsPtr, valuesPtr, count, own, ROUNDING, zero, last);
  const [cross, square] = heap.f64(sumsPtr, 2);
  if (square === 0) return undefined;
  const level = cross / square;
  return {
    width,
    kind: "uniform",
    scale: Math.fround((level * last) / 2),
    offset: Math.fround(level * (last / 2 - zero)),
  };
}

/** A value that rounds to at most `most` steps. */
const fits = (value: number, most: number, step: number): boolean => value / step + ROUNDING < most + 1;
