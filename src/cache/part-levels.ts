/** Levels of kept channels as the nibbles of planes name them: PARTS of codec/layout.ts. */
import { BookShelf } from "../codec/codebook.ts";
import type { ChannelBook } from "../codec/coded.ts";
import { BOOK, MIX_LEVEL, PART_LEVELS } from "../codec/layout.ts";
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

/** Levels as i16 in steps of `scales` a part: (parts, 32) u8, low bytes then high bytes. */
export function roundedLevels(levels: Float32Array): { bytes: Uint8Array; scales: Float32Array } {
  const parts = levels.length / PART_LEVELS;
  const bytes = new Uint8Array(2 * levels.length);
  const scales = new Float32Array(parts);
  for (let part = 0; part < parts; part++) {
    const mine = levels.subarray(part * PART_LEVELS, (part + 1) * PART_LEVELS);
    const top = mine.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
    scales[part] = top / MIX_LEVEL;
    mine.forEach((level, n) => {
      const code = top > 0 ? Math.round((level / top) * MIX_LEVEL) : 0;
      bytes[2 * PART_LEVELS * part + n] = code;
      bytes[2 * PART_LEVELS * part + PART_LEVELS + n] = code >> 8;
    });
  }
  return { bytes, scales };
}
