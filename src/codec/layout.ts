/**
 * Every offset and size that host and kernels share. The only place that knows an offset.
 *
 * PLANES: a plane is 16 bytes with one 4-bit code for each of 32 tokens: byte i holds token i in its low nibble and
 * token i + 16 in its high nibble. A block is 32 tokens: its planes in channel order, widths falling.
 *
 *   width 8   two planes a channel: high nibbles, then low nibbles
 *   width 4   one plane a channel
 *   width 2   two channels a plane: nibble = first | second << 2
 *   width 1   four channels a plane: nibble = first | second << 1 | third << 2 | fourth << 3
 *
 * A last plane that is not full has zero codes in the free places; those bytes count.
 *
 * ROTARY descriptor, aligned to 8:
 *   0 u32 headDim | 4 u32 pairCount | 8 u32 interleaved (0 half-split, 1 pairs) | 12 u32 zero | 16 f64 frequency[pairCount]
 *
 * BOOK, aligned to 16: 256 f32 levels, then 256 f32 thresholds (2^bits - 1 used).
 */
export const WIDTHS = [0, 1, 2, 4, 8] as const;
export type Width = (typeof WIDTHS)[number];

export const BLOCK_TOKENS = 32;
export const PLANE_BYTES = 16;

export const ROTARY = { headDim: 0, pairCount: 4, interleaved: 8, frequencies: 16 } as const;
export const rotaryBytes = (pairCount: number): number => ROTARY.frequencies + 8 * pairCount;

export const BOOK = { levels: 0, thresholds: 1024, bytes: 2048 } as const;

export const MOMENT_CHUNK_ROWS = 32;
export const momentScratchBytes = (dim: number): number => MOMENT_CHUNK_ROWS * roundUp(dim, 8) * 4;

export const eigenScratchBytes = (n: number): number => 8 * n;

/** Scratch of `leadingEigen`, with k = rank + oversample: a (k, n), a (k, k) vectors, a (k, k) matrix, k values, k spare. */
export const leadingScratchBytes = (n: number, rank: number, oversample: number): number => {
  const k = rank + oversample;
  return 8 * (2 * k * n + 2 * k * k + 2 * k);
};

/** The numbers above that kernels carry too: a module exports each under this name, compared when it is loaded. */
export const KERNEL_LAYOUT = {
  BLOCK_TOKENS,
  PLANE_BYTES,
  MOMENT_CHUNK_ROWS,
  BOOK_THRESHOLDS: BOOK.thresholds,
  ROTARY_PAIR_COUNT: ROTARY.pairCount,
  ROTARY_INTERLEAVED: ROTARY.interleaved,
  ROTARY_FREQUENCIES: ROTARY.frequencies,
} as const;

/** How many kept channels have each width; channels are sorted by falling width. */
export interface WidthCounts {
  count8: number;
  count4: number;
  count2: number;
  count1: number;
}

export function countWidths(widths: ArrayLike<number>): WidthCounts {
  const counts = { count8: 0, count4: 0, count2: 0, count1: 0 };
  for (let i = 0; i < widths.length; i++) {
    const key = `count${widths[i]}` as keyof WidthCounts;
    if (widths[i] !== 0) counts[key]++;
  }
  return counts;
}

/** Planes a block of a head group. */
export const planeCount = (counts: WidthCounts): number =>
  2 * counts.count8 + counts.count4 + Math.ceil(counts.count2 / 2) + Math.ceil(counts.count1 / 4);

export const blockCount = (tokens: number): number => Math.ceil(tokens / BLOCK_TOKENS);

export const roundUp = (value: number, multiple: number): number => Math.ceil(value / multiple) * multiple;
