/**
 * Basis rows in few bits. An error of relative size b in a row of variance v adds v * b to the squared error, beside
 * v * DISTORTION[width] of the codes; so a channel of 1-bit codes needs far fewer basis bits than one of 8-bit codes
 * (docs/adr/0005 has the measurement).
 */
import type { CodedBasis } from "./coded.ts";
import type { CodecOptions } from "./options.ts";

/** Basis bits for each width of code under "auto". */
const AUTO_BITS: Record<number, number> = (globalThis as any).process?.env?.AB
  ? JSON.parse((globalThis as any).process.env.AB)
  : { 1: 5, 2: 6, 4: 8, 8: 8 };
/** Clips tried: part of the greatest element that the largest code stands for. */
const CLIPS = [1, 0.9, 0.8, 0.7];

/** rows (channels, dim) f32; widths of the channels' codes. */
export function codeBasis(
  rows: Float32Array,
  dim: number,
  widths: ArrayLike<number>,
  bits: CodecOptions["basisBits"],
): CodedBasis {
  const channels = widths.length;
  const coded = {
    widths: new Uint8Array(channels),
    scales: new Float32Array(channels),
    codes: new Int16Array(rows.length),
  };
  for (let c = 0; c < channels; c++) {
    coded.widths[c] = bits === "auto" ? AUTO_BITS[widths[c]] : bits;
    coded.scales[c] = codeRow(
      rows.subarray(c * dim, (c + 1) * dim),
      coded.codes.subarray(c * dim, (c + 1) * dim),
      coded.widths[c],
    );
  }
  return coded;
}

/** Fills `codes`; returns the scale of least squared error among the clips. */
function codeRow(row: Float32Array, codes: Int16Array, bits: number): number {
  const last = 2 ** (bits - 1) - 1;
  const top = row.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
  if (top === 0) return 0;
  let best = 0;
  let bestError = Infinity;
  for (const clip of bits >= 8 ? [1] : CLIPS) {
    const scale = Math.fround((top * clip) / last);
    let error = 0;
    for (const x of row) error += (x - scale * codeOf(x, scale, last)) ** 2;
    if (error < bestError) [best, bestError] = [scale, error];
  }
  for (let d = 0; d < row.length; d++) codes[d] = codeOf(row[d], best, last);
  return best;
}

const codeOf = (x: number, scale: number, last: number): number =>
  Math.max(-last - 1, Math.min(last, Math.round(x / scale)));

/** The rows that a reader sees: (channels, dim) f32. */
export function basisRows(basis: CodedBasis, dim: number): Float32Array {
  return Float32Array.from(basis.codes, (code, i) => Math.fround(code * basis.scales[Math.floor(i / dim)]));
}
