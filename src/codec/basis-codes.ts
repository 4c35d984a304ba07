/**
 * Basis rows in few bits. An error of relative size b in the row of a channel of variance v costs v * b, beside
 * v times a distortion for its codes; a bit more a row costs dim bits a cache, a bit more a code costs a bit a token.
 * Both buy a factor of four, so they balance where v * b is dim / tokens of what codes cost a channel. "auto" gives
 * each row the fewest bits that keep it below a part of that balance (docs/adr/0005 has the measurement): strong
 * channels get many, channels of one bit few, long caches finer rows than short ones.
 */
import type { Basis } from "./basis.ts";
import type { CodedBasis } from "./coded.ts";
import { fromHalf, toHalf } from "./half.ts";
import type { CodecOptions } from "./options.ts";

export const LEAST_BASIS_BITS = 3;
export const MOST_BASIS_BITS = 12;
/** Part of the balance that a row's error may take: the minimum is flat, and a cache that grows wants finer rows. */
const BALANCE_PART = 0.2;
/** Clips tried: part of the greatest element that the largest code stands for. */
const CLIPS = [1, 0.9, 0.8, 0.7];
/** Elements of a row between two looks at whether it is worth going on. */
const CHECK_EVERY = 16;

/** Channels that are kept: their numbers in the basis and the mean squared errors of their codes. */
export interface KeptChannels {
  channels: number[];
  errors: number[];
}

/** Synthesis rows of the kept channels for a cache of `tokens` coded tokens. */
export function codeBasis(
  basis: Basis,
  kept: KeptChannels,
  tokens: number,
  bits: CodecOptions["basisBits"],
): CodedBasis {
  const { dim } = basis;
  if (basis.coded) return pickRows(basis.coded, kept.channels, dim);
  const count = kept.channels.length;
  const columns = columnScalesOf(basis);
  const columnScales = columns && Float64Array.from(columns, fromHalf);
  const coded: CodedBasis = {
    widths: new Uint8Array(count),
    scales: new Float32Array(count),
    codes: new Int16Array(count * dim),
    ...(columns && { columnScales: columns }),
  };
  const allowed = allowedErrors(basis, kept, tokens);
  kept.channels.forEach((channel, i) => {
    const row = new Float64Array(basis.synthesis.subarray(channel * dim, (channel + 1) * dim));
    if (columnScales) for (let d = 0; d < dim; d++) row[d] /= columnScales[d];
    const fit = bits === "auto" ? fewestBits(row, allowed[i]) : fitRow(row, bits);
    coded.widths[i] = fit.bits;
    coded.scales[i] = fit.scale;
    const last = 2 ** (fit.bits - 1) - 1;
    for (let d = 0; d < dim; d++) coded.codes[i * dim + d] = codeOf(row[d], fit.scale, last);
  });
  return coded;
}

/** Relative squared error that each kept row may have: `BALANCE_PART` of the balance. */
function allowedErrors({ dim, variance }: Basis, { channels, errors }: KeptChannels, tokens: number): number[] {
  const level = errors.reduce((a, b) => a + b, 0) / errors.length;
  return channels.map(
    (channel) => (BALANCE_PART * level * dim) / tokens / Math.max(variance[channel], Number.MIN_VALUE),
  );
}

/**
 * Errors of a row count by the metric's diagonal, so columns are divided by its root (f16, geometric mean near 1)
 * before they are rounded. Undefined without a metric.
 */
function columnScalesOf({ dim, roots }: Basis): Uint16Array | undefined {
  if (!roots) return undefined;
  const size = dim / roots.length;
  const scales = Float64Array.from({ length: dim }, (_, d) => {
    const row = roots[Math.floor(d / size)].subarray((d % size) * size, ((d % size) + 1) * size);
    return 1 / Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
  });
  // Normalized by a plain mean of squares: no logarithm of the host takes part.
  const mean = Math.sqrt(scales.reduce((sum, x) => sum + x * x, 0) / dim);
  return Uint16Array.from(scales, (x) => toHalf(Math.max(2 ** -10, x / mean)));
}

interface RowFit {
  bits: number;
  scale: number;
  /** Squared error over the row's square. */
  error: number;
}

function fewestBits(row: Float64Array, allowed: number): RowFit {
  const size = sizeOf(row);
  // Without a bit to spare the best is wanted whatever it is.
  const fitAt = (bits: number): RowFit => fitRow(row, bits, size, bits < MOST_BASIS_BITS ? allowed : Infinity);
  let fit = fitAt(likelyBits(row.length, size, allowed));
  // Clips may make do with less.
  while (fit.error <= allowed && fit.bits > LEAST_BASIS_BITS) {
    const fewer = fitAt(fit.bits - 1);
    if (fewer.error > allowed) return fit;
    fit = fewer;
  }
  while (fit.error > allowed && fit.bits < MOST_BASIS_BITS) fit = fitAt(fit.bits + 1);
  return fit;
}

interface RowSize {
  /** Greatest magnitude. */
  top: number;
  /** Sum of squares. */
  square: number;
}

function sizeOf(row: Float64Array): RowSize {
  let [top, square] = [0, 0];
  for (let i = 0; i < row.length; i++) {
    top = Math.max(top, Math.abs(row[i]));
    square += row[i] * row[i];
  }
  return { top, square };
}

/** The fewest bits whose even steps, a twelfth of their square in error, keep within `allowed`. */
function likelyBits(length: number, { top, square }: RowSize, allowed: number): number {
  let bits = LEAST_BASIS_BITS;
  const errorAt = (b: number): number => (length * (top / (2 ** (b - 1) - 1)) ** 2) / 12 / square;
  while (bits < MOST_BASIS_BITS && errorAt(bits) > allowed) bits++;
  return bits;
}

/** The scale of least squared error among the clips; errors beyond `allowed` are not told apart, they are infinite. */
function fitRow(row: Float64Array, bits: number, { top, square } = sizeOf(row), allowed = Infinity): RowFit {
  const last = 2 ** (bits - 1) - 1;
  const best: RowFit = { bits, scale: 0, error: 0 };
  if (top === 0) return best;
  best.error = Infinity;
  // A sum beyond it is no less once it is divided; a hair more, so that rounding decides nothing.
  let most = allowed * square * (1 + 1e-9);
  for (const clip of bits >= 8 ? [1] : CLIPS) {
    const scale = Math.fround((top * clip) / last);
    const error = squaredError(row, scale, last, most);
    if (error / square < best.error) {
      Object.assign(best, { scale, error: error / square });
      most = Math.min(most, error);
    }
  }
  return best;
}

/** Of a row on its codes; Infinity once it is more than `most`. */
function squaredError(row: Float64Array, scale: number, last: number, most: number): number {
  let error = 0;
  for (let i = 0; i < row.length; ) {
    for (const end = Math.min(row.length, i + CHECK_EVERY); i < end; i++) {
      const x = row[i] - scale * codeOf(row[i], scale, last);
      error += x * x;
    }
    if (error > most) return Infinity;
  }
  return error;
}

const codeOf = (x: number, scale: number, last: number): number =>
  Math.max(-last - 1, Math.min(last, Math.round(x / scale)));

/** Some rows, by their numbers. */
export function pickRows(basis: CodedBasis, rows: readonly number[], dim: number): CodedBasis {
  const codes = new Int16Array(rows.length * dim);
  rows.forEach((row, i) => {
    codes.set(basis.codes.subarray(row * dim, (row + 1) * dim), i * dim);
  });
  return {
    ...basis,
    widths: Uint8Array.from(rows, (row) => basis.widths[row]),
    scales: Float32Array.from(rows, (row) => basis.scales[row]),
    codes,
  };
}

/** The rows that a reader sees: (channels, dim) f32. */
export function basisRows(basis: CodedBasis, dim: number): Float32Array {
  const { codes, scales } = basis;
  const columns = basis.columnScales && Float32Array.from(basis.columnScales, fromHalf);
  const rows = new Float32Array(codes.length);
  for (let c = 0, i = 0; c < scales.length; c++) {
    for (let d = 0; d < dim; d++, i++) {
      const x = Math.fround(codes[i] * scales[c]);
      rows[i] = columns ? x * columns[d] : x;
    }
  }
  return rows;
}
