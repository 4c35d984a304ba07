/** Head groups of attention on codes that no codec made: PARTS of src/codec/layout.ts drawn anew, over random planes. */
import { BLOCK_TOKENS, PLANE_BYTES, planeCount, type WidthCounts } from "../../src/codec/layout.ts";
import { noise } from "./noise.ts";

/** Where a part reads its code: bits [shift, shift + bits) of the nibbles of a plane. No channel where a place is free. */
export interface Place {
  channel: number | undefined;
  plane: number;
  shift: number;
  bits: number;
}

export const countsOf = (count8: number, count4: number, count2: number, count1: number): WidthCounts => ({
  count8,
  count4,
  count2,
  count1,
});

/** In order of parts. */
export function placesOf(counts: WidthCounts): Place[] {
  const places: Place[] = [];
  let [channel, plane] = [0, 0];
  for (let c = 0; c < 2 * counts.count8; c++) {
    places.push({ channel: c >> 1, plane: plane++, shift: 0, bits: 4 });
  }
  channel = counts.count8;
  for (const [count, bits] of [
    [counts.count4, 4],
    [counts.count2, 2],
    [counts.count1, 1],
  ]) {
    const last = channel + count;
    while (channel < last) {
      for (let shift = 0; shift < 4; shift += bits) {
        places.push({ channel: channel < last ? channel++ : undefined, plane, shift, bits });
      }
      plane++;
    }
  }
  return places;
}

/** Levels as a nibble names them, (parts, 16): `level(part, code)` for the codes of a part, zeros for free places. */
export function levelsOf(places: Place[], level: (part: number, code: number) => number): Float32Array {
  return Float32Array.from({ length: 16 * places.length }, (_, i) => {
    const { channel, shift, bits } = places[i >> 4];
    return channel === undefined ? 0 : level(i >> 4, ((i & 15) >> shift) & (2 ** bits - 1));
  });
}

/** A number in [-1, 1) for each part and code, the same for equal seeds. */
export function noiseLevels(places: Place[], seed = 1): Float32Array {
  const all = noise(16 * places.length, seed);
  return levelsOf(places, (part, code) => all[16 * part + code]);
}

/** Planes of blocks with anything in them, free places too; `tail` more bytes a block. */
export const anyBlocks = (counts: WidthCounts, blocks: number, tail = 0, seed = 1): Uint8Array =>
  Uint8Array.from(noise(blocks * (planeCount(counts) * PLANE_BYTES + tail), seed), (x) => 128 + 128 * x);

/** The nibble of a token (0 to 31) in plane `plane` of a block. */
export function nibbleAt(block: Uint8Array, plane: number, token: number): number {
  const byte = block[plane * PLANE_BYTES + (token % PLANE_BYTES)];
  return token < BLOCK_TOKENS / 2 ? byte & 15 : byte >> 4;
}

/** Every mixture of widths with each last plane empty, part full and full. */
export const MIXTURES: WidthCounts[] = [0, 1, 2].flatMap((count8) =>
  [0, 1, 2].flatMap((count4) =>
    [0, 1, 2, 3].flatMap((count2) => [0, 1, 2, 3, 4, 5].map((count1) => countsOf(count8, count4, count2, count1))),
  ),
);
