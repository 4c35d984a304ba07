/**
 * What codes will leave of a cache's channels and how many bytes they will take, from spectra alone: in planes, as
 * allocation.ts shares bits, or at entropy, in steps of one size.
 */
import type { Basis } from "./basis.ts";
import { codeBasis, type KeptChannels } from "./basis-codes.ts";
import { basisBytes } from "./bytes.ts";
import { allocateKeys } from "./compress.ts";
import { keptChannels } from "./group-codec.ts";
import { blockCount, countWidths, PLANE_BYTES, planeCount } from "./layout.ts";
import type { CodecOptions } from "./options.ts";
import type { CacheSpectra } from "./spectra.ts";
import { codeBits, commonStep, keptAt } from "./steps.ts";
import { allocateAllValues } from "./value-codec.ts";

export interface Forecast {
  /** Squared error that each channel of each head group is left with, and all beyond the rank, by layer: (rank + 1). */
  errors: Float64Array[][];
  /** Codes, books, norms, bases and centres. */
  bytes: number;
}

/** Codes of the keys at a mean of `bits`, of a cache of `coded` tokens between the exact ones. */
export function forecastKeys({ keys }: CacheSpectra, options: CodecOptions, coded: number, bits: number): Forecast {
  const bases = keys.map((layer) => layer.map(({ basis }) => basis));
  if (options.entropy) return inSteps(bases, options, coded, bits, centreBytes);
  const widths = allocateKeys(keys, { ...options, schedule: null, keyBits: bits });
  return inPlanes(bases, widths, options, coded, centreBytes);
}

/** The same of values. */
export function forecastValues({ values }: CacheSpectra, options: CodecOptions, coded: number, bits: number): Forecast {
  const normBytes = () => 8 + coded;
  if (options.entropy) return inSteps(values, options, coded, bits, normBytes);
  return inPlanes(values, allocateAllValues(values, bits), options, coded, normBytes);
}

/** Channels that a group keeps, with the bytes of their codes. */
interface Kept extends KeptChannels {
  codeBytes: number;
}

/** Width, kind and scale of a channel's book; steps have an offset too. */
const BOOK_BYTES = { planes: 6, steps: 10 };

const centreBytes = ({ dim }: Basis): number => 2 * dim;

function inPlanes(
  bases: Basis[][],
  widths: Uint8Array[][],
  options: CodecOptions,
  coded: number,
  besideBytes: (basis: Basis) => number,
): Forecast {
  return forecast(bases, options, coded, besideBytes, BOOK_BYTES.planes, (basis, layer, group) => {
    const kept = keptChannels(widths[layer][group], basis);
    return { ...kept, codeBytes: planeCount(countWidths(kept.widths)) * PLANE_BYTES * blockCount(coded) };
  });
}

function inSteps(
  bases: Basis[][],
  options: CodecOptions,
  coded: number,
  bits: number,
  besideBytes: (basis: Basis) => number,
): Forecast {
  const step = commonStep(bases.flat(), bits, coded);
  return forecast(bases, options, coded, besideBytes, BOOK_BYTES.steps, (basis) => {
    const kept = keptAt(basis, step, coded);
    return { ...kept, codeBytes: (codeBits(basis, step, kept.channels) * coded) / 8 };
  });
}

function forecast(
  bases: Basis[][],
  { basisBits }: CodecOptions,
  coded: number,
  besideBytes: (basis: Basis) => number,
  bookBytes: number,
  keep: (basis: Basis, layer: number, group: number) => Kept,
): Forecast {
  let bytes = 0;
  const errors = bases.map((layer, l) =>
    layer.map((basis, g) => {
      const kept = keep(basis, l, g);
      const rows = codeBasis(basis, kept, coded, basisBits);
      bytes += kept.codeBytes + bookBytes * kept.channels.length + basisBytes(rows, basis.dim) + besideBytes(basis);
      return errorsOf(basis, kept);
    }),
  );
  return { errors, bytes };
}

/** Channels that are not kept are left with all their variance, and those beyond the rank together with theirs. */
function errorsOf({ variance, energy }: Basis, { channels, errors }: KeptChannels): Float64Array {
  const left = Float64Array.from([...variance, Math.max(0, energy - variance.reduce((a, b) => a + b, 0))]);
  channels.forEach((channel, i) => {
    left[channel] = errors[i];
  });
  return left;
}
