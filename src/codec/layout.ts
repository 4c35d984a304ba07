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

export const channelCount = ({ count8, count4, count2, count1 }: WidthCounts): number =>
  count8 + count4 + count2 + count1;

/** Planes a block of a head group. */
export const planeCount = (counts: WidthCounts): number =>
  2 * counts.count8 + counts.count4 + Math.ceil(counts.count2 / 2) + Math.ceil(counts.count1 / 4);

/** Bits of byte `byte` of a plane that hold codes, where the block has `used` tokens. */
export const usedNibbles = (byte: number, used: number): number =>
  (byte < used ? 0x0f : 0) | (byte + PLANE_BYTES < used ? 0xf0 : 0);

export const blockCount = (tokens: number): number => Math.ceil(tokens / BLOCK_TOKENS);

export const roundUp = (value: number, multiple: number): number => Math.ceil(value / multiple) * multiple;

/**
 * PARTS: a channel's levels as the nibbles of a plane name them, 16 f32 each. A channel of 8 bits has two parts (high
 * nibble with the offset, low nibble), any other one; a plane of 2-bit channels has two parts and one of 1-bit channels
 * four, those of free places all zero. Part order: that of planes, then of places in a plane.
 */
export const PART_LEVELS = 16;
export const partCount = (counts: WidthCounts): number =>
  2 * counts.count8 + counts.count4 + 2 * Math.ceil(counts.count2 / 2) + 4 * Math.ceil(counts.count1 / 4);

/**
 * GROUP descriptor of attention on codes, aligned to 16:
 *   0 u32 count8 | 4 u32 count4 | 8 u32 count2 | 12 u32 count1
 *   16 u32 levelsPtr: keys (parts, 16) f32, see PARTS; values (level parts, 32) u8, low bytes of 16 i16
 *       levels, then high ones
 *   20 u32 normsPtr: values, (256) f32, the level of each norm code
 *   24 u32 queryCount | 28 u32 weightStride: values, elements
 */
export const GROUP = { levels: 16, norms: 20, queryCount: 24, weightStride: 28, bytes: 32 } as const;

/**
 * SCORE_SET: tables of 1 to 4 queries on one head group, aligned to 16, q queries and p planes:
 *   0 f32 step[4] | 16 f32 bias[4] | 32 u32 runCount | 36 u32 wideCount | 40 u32 p | 44 u32 q
 *   48 u32 lowBits | 64 u16 sums (4, 32), scratch of `scorePlanes`
 *   320 u8 runs[p], planes of each run, zeros up to a multiple of 16
 *   then low bytes (p, q, 16) of the u16 entries (their lowBits lowest bits), then high bytes (p, q, 16): the rest
 * The score of a token is bias + step * (sum of the entries of its nibbles). Planes from wideCount on have no high bytes.
 * With runs all entries of a query sum below 65536, and low bytes of a run's planes below 256. Without (runCount 0)
 * bytes of every plane are widened at once, and lowBits is 8.
 */
export const SCORE_SET = { steps: 0, biases: 16, runCount: 32, lowBits: 48, sums: 64, runs: 320 } as const;
export const MOST_SET_QUERIES = 4;
/** Planes that a set may have: a run of all of them must be counted in a byte. */
export const MOST_SET_PLANES = 255;
export const scoreSetBytes = (planes: number, queries: number): number =>
  SCORE_SET.runs + roundUp(planes, 16) + 2 * PLANE_BYTES * planes * queries;
/** f32 levels of every plane and query. */
export const scoreScratchBytes = (planes: number, queries: number): number => 64 * planes * queries;

/** Value blocks hold a norm code a token behind their planes. */
export const valueBlockBytes = (planes: number): number => PLANE_BYTES * planes + BLOCK_TOKENS;

/** Blocks that `mixPlanes` takes at a time: their weights share a scale. */
export const MIX_BLOCKS = 4;
/** Largest level of a part and largest weight: 8 * MIX_BLOCKS products of both fit an i32 lane. */
export const MIX_LEVEL = 8191;
/** All weights of MIX_BLOCKS blocks where bits are summed: with half a step of rounding a token they fit 16 bits. */
export const MIX_TOTAL = 65471;

/**
 * STRIPS: planes of 2- and 1-bit channels as rows of bits. Row 4 * p + r is bit r of the nibbles of the p-th such plane;
 * 16 rows are a strip, the last one filled up with rows of zeros. Levels of these channels are linear in their bits
 * (books are symmetric), so a channel needs the sums of weights where each of its bits is set, and of all weights.
 */
export const STRIP_ROWS = 16;
const STRIP_PLANES = 4;
const thinPlanes = ({ count2, count1 }: WidthCounts): number => Math.ceil(count2 / 2) + Math.ceil(count1 / 4);
export const stripCount = (counts: WidthCounts): number => Math.ceil(thinPlanes(counts) / STRIP_PLANES);
/** Parts that are looked up by their levels: those of 8- and 4-bit channels. */
export const levelParts = ({ count8, count4 }: WidthCounts): number => 2 * count8 + count4;

/** Scales, norms and products, weights in both roundings, tables of four tokens each, a strip: of MIX_BLOCKS blocks. */
export const mixScratchBytes = (queries: number): number =>
  BLOCK_TOKENS * MIX_BLOCKS * (12 + 10 * queries) + 32 * queries;
/** Partial sums, f32: (level parts, queryCount, 4), then (strips, queryCount, 16), then (queryCount) of all weights. */
export const mixSumBytes = (counts: WidthCounts, queries: number): number =>
  4 * queries * (4 * levelParts(counts) + STRIP_ROWS * stripCount(counts) + 1);
/** What `foldMix` multiplies sums with, f32: (level parts), (strips, 16), then a constant a 2- or 1-bit channel. */
export const mixScaleCount = (counts: WidthCounts): number =>
  levelParts(counts) + STRIP_ROWS * stripCount(counts) + counts.count2 + counts.count1;

/**
 * MODEL: adaptive frequencies of a nibble, for the range coder, aligned to 16:
 *   0 u16 below[16]: frequencies of all lesser nibbles, of RANGE_TOTAL in all | 32 u16 seen, up to RANGE_WINDOW - 2
 * A channel of 8 bits has 17 models (the high nibble's, then the low nibble's after each high one), any other one.
 *
 * RANGE CODE of so many tokens: four u32 states, then u16 words. Token after token, channel after channel, high nibble
 * before low; the k-th nibble belongs to state k % 4.
 */
export const MODEL = { seen: 32, bytes: 48 } as const;
export const RANGE_TOTAL = 1 << 15;
/** A model forgets as a mean over so many nibbles would. */
export const RANGE_WINDOW = 128;
/** No nibble's frequency falls below. */
export const RANGE_LEAST = 4;
/** Tokens of a range code in a stream: what decoding must hold at a time. */
export const RANGE_TOKENS = 1024;
export const modelCount = (wideCount: number, narrowCount: number): number => 17 * wideCount + narrowCount;
const nibbleCount = (wideCount: number, narrowCount: number, tokens: number): number =>
  (2 * wideCount + narrowCount) * tokens;
export const rangeScratchBytes = (wideCount: number, narrowCount: number, tokens: number): number =>
  4 * nibbleCount(wideCount, narrowCount, tokens);
/** The most that a range code of so many tokens may take. */
export const rangeBytes = (wideCount: number, narrowCount: number, tokens: number): number =>
  16 + 2 * nibbleCount(wideCount, narrowCount, tokens);

/** The numbers above that kernels carry too: a module exports each under this name, compared when it is loaded. */
export const KERNEL_LAYOUT = {
  BLOCK_TOKENS,
  PLANE_BYTES,
  MOMENT_CHUNK_ROWS,
  BOOK_THRESHOLDS: BOOK.thresholds,
  ROTARY_PAIR_COUNT: ROTARY.pairCount,
  ROTARY_INTERLEAVED: ROTARY.interleaved,
  ROTARY_FREQUENCIES: ROTARY.frequencies,
  GROUP_LEVELS: GROUP.levels,
  GROUP_NORMS: GROUP.norms,
  GROUP_QUERY_COUNT: GROUP.queryCount,
  GROUP_WEIGHT_STRIDE: GROUP.weightStride,
  SET_LOW_BITS: SCORE_SET.lowBits,
  SET_SUMS: SCORE_SET.sums,
  SET_RUNS: SCORE_SET.runs,
  MIX_BLOCKS,
  MODEL_BYTES: MODEL.bytes,
  RANGE_WINDOW,
} as const;
