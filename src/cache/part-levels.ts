/** Levels of kept channels as the nibbles of planes name them: PARTS of codec/layout.ts. */
import { BookShelf } from "../codec/codebook.ts";
import type { ChannelBook } from "../codec/coded.ts";
import {
  BOOK,
  levelParts,
  MIX_LEVEL,
  mixScaleCount,
  PART_LEVELS,
  roundUp,
  STRIP_ROWS,
  stripCount,
  type WidthCounts,
} from "../codec/layout.ts";
import type { Runtime } from "../runtime/runtime.ts";

/** (parts, 16) f32 for books in the order of channels, widths falling. */
export function partLevels(runtime: Runtime, books: ChannelBook[]): Float32Array {
  const parts: ArrayLike<number>[] = [];
  const [none, all] = [new Float32Array(PART_LEVELS), levelsOf(runtime, books)];
  const nibbles = (levels: Float32Array, shift: number, mask: number) =>
    Float32Array.from({ length: PART_LEVELS }, (_, n) => levels[(n >> shift) & mask]);
  let place = 0;
  books.forEach(({ width, scale, offset }, i) => {
    if (width === 8) {
      parts.push(
        Float32Array.from({ length: PART_LEVELS }, (_, n) => offset + (scale * (32 * n - 255)) / 255),
        Float32Array.from({ length: PART_LEVELS }, (_, n) => (scale * 2 * n) / 255),
      );
    } else {
      parts.push(nibbles(all[i], place, 2 ** width - 1));
      place = (place + width) % 4;
    }
    // The last plane of a width may have free places.
    const last = i + 1 === books.length || books[i + 1].width !== width;
    for (; last && place > 0; place = (place + width) % 4) parts.push(none);
  });
  const out = new Float32Array(parts.length * PART_LEVELS);
  parts.forEach((levels, part) => {
    out.set(levels, part * PART_LEVELS);
  });
  return out;
}

/** Levels of each book as the codec decodes them. */
function levelsOf(runtime: Runtime, books: ChannelBook[]): Float32Array[] {
  return runtime.heap.scratch((frame) => {
    const shelf = new BookShelf(runtime, frame);
    return books.map((book) => runtime.heap.f32(shelf.open(book) + BOOK.levels, 2 ** book.width).slice());
  });
}

/**
 * What mixing reads, of `partLevels`: levels of parts of 8 and 4 bits as i16, (level parts, 32) u8, low bytes then high
 * bytes; and the factors of `foldMix`: steps of those levels, what a set bit adds in each row of the strips, then the
 * level of no bits of each 2- and 1-bit channel. (STRIPS of codec/layout.ts.)
 */
export function mixLevels(levels: Float32Array, counts: WidthCounts): { bytes: Uint8Array; factors: Float32Array } {
  const parts = levelParts(counts);
  const bytes = new Uint8Array(2 * PART_LEVELS * parts);
  const factors = new Float32Array(mixScaleCount(counts));
  const levelsOfPart = (part: number) => levels.subarray(part * PART_LEVELS, (part + 1) * PART_LEVELS);
  for (let part = 0; part < parts; part++) {
    const mine = levelsOfPart(part);
    const top = mine.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
    factors[part] = top / MIX_LEVEL;
    mine.forEach((level, n) => {
      const code = top > 0 ? Math.round((level / top) * MIX_LEVEL) : 0;
      bytes[2 * PART_LEVELS * part + n] = code;
      bytes[2 * PART_LEVELS * part + PART_LEVELS + n] = code >> 8;
    });
  }
  let [row, part, constant] = [parts, parts, parts + STRIP_ROWS * stripCount(counts)];
  for (const [count, width] of [
    [counts.count2, 2],
    [counts.count1, 1],
  ]) {
    for (let i = 0; i < roundUp(count, 4 / width); i++, part++) {
      const mine = levelsOfPart(part);
      for (let bit = 0; bit < width; bit++) factors[row++] = mine[1 << ((width * i + bit) % 4)] - mine[0];
      if (i < count) factors[constant++] = mine[0];
    }
  }
  return { bytes, factors };
}
