/**
 * Bits of keys and of values for a goal, on the cache itself: the fewest bytes that an expected loss allows, or the
 * least expected loss that a number of bytes allows. All pairs of a ladder of bits are looked at; layers share bits as
 * allocation.ts does it.
 */
import { UnsupportedError } from "../errors.ts";
import type { Basis } from "./basis.ts";
import { codeBasis } from "./basis-codes.ts";
import { basisBytes } from "./bytes.ts";
import {
  type CacheSpectra,
  expectedKl,
  hasMetric,
  keyKlAt,
  keyWidths,
  referenceErrors,
  valueErrorAt,
  valueWidths,
} from "./expected-kl.ts";
import { keptChannels } from "./group-codec.ts";
import { blockCount, countWidths, PLANE_BYTES, planeCount } from "./layout.ts";
import type { CodecOptions } from "./options.ts";

export interface Choice {
  keyBits: number;
  valueBits: number;
  /** Next-token KL in nats; null without a metric, where nothing can be said. */
  expectedKl: number | null;
  /** Codes, books, norms, bases and centres: an archive has exact tokens and a header beside them. */
  codedBytes: number;
}

/** Eighths to 2 bits, quarters to 4, halves to 6. */
const LADDER = [
  ...Array.from({ length: 15 }, (_, i) => (i + 2) / 8),
  ...Array.from({ length: 8 }, (_, i) => 2 + (i + 1) / 4),
  ...Array.from({ length: 4 }, (_, i) => 4 + (i + 1) / 2),
];
/** Of key bits over value bits, where there is no metric to weigh one against the other: that of the defaults. */
const PLAIN_PROPORTION = 1.25 / 2;

/** Scale, kind and width of a channel's book. */
const BOOK_BYTES = 6;

/** Every pair of the ladder for a cache of `coded` tokens between the exact ones. */
export function choicesOf(spectra: CacheSpectra, options: CodecOptions, coded: number): Choice[] {
  const own = hasMetric(spectra) ? referenceErrors(spectra, options) : undefined;
  const keyBases = spectra.keys.map((layer) => layer.map(({ basis }) => basis));
  const keys = LADDER.map((bits) => {
    const widths = keyWidths(spectra, options, bits);
    return { bits, error: keyKlAt(spectra, widths), bytes: bytesOf(keyBases, widths, options, coded, 2) };
  });
  const values = LADDER.map((bits) => {
    const widths = valueWidths(spectra, bits);
    return { bits, error: valueErrorAt(spectra, widths), bytes: bytesOf(spectra.values, widths, options, coded, 0) };
  });
  return keys.flatMap((key) =>
    values.map((value) => ({
      keyBits: key.bits,
      valueBits: value.bits,
      expectedKl: own ? expectedKl({ keyKl: key.error, valueError: value.error }, own) : null,
      codedBytes: key.bytes + value.bytes,
    })),
  );
}

/** The fewest bytes at that loss or less. UnsupportedError without a metric, and where no setting is so exact. */
export function chooseForKl(choices: Choice[], target: number): Choice {
  const known = choices.filter((choice) => choice.expectedKl !== null);
  if (known.length === 0) {
    throw new UnsupportedError("targetKl: expected queries, of the cache or a profile of the model, got none");
  }
  const good = known.filter((choice) => (choice.expectedKl as number) <= target);
  if (good.length > 0) return least(good, ({ codedBytes }) => codedBytes);
  const best = Math.min(...known.map((choice) => choice.expectedKl as number));
  throw new UnsupportedError(
    `targetKl: expected at least ${best.toPrecision(2)}, what most bits give here, got ${target}`,
  );
}

/** The least loss within those bytes; without a metric the most bits, shared as in the defaults. Undefined if none. */
export function chooseForBytes(choices: Choice[], mostBytes: number): Choice | undefined {
  const small = choices.filter(({ codedBytes }) => codedBytes <= mostBytes);
  if (small.length === 0) return undefined;
  const known = small.every((choice) => choice.expectedKl !== null);
  return known ? least(small, (choice) => choice.expectedKl as number) : least(small, unbalance);
}

/** Falls as bits grow along the proportion; off it, only what is balanced counts. */
function unbalance({ keyBits, valueBits }: Choice): number {
  return -Math.min(keyBits / PLAIN_PROPORTION, valueBits) + 1e-3 * (keyBits + valueBits);
}

const least = (choices: Choice[], costOf: (choice: Choice) => number): Choice =>
  choices.reduce((best, choice) => (costOf(choice) < costOf(best) ? choice : best));

/** As bytes.ts counts them of coded groups. `centreBytes`: of an element of a group's centre; without one, norms. */
function bytesOf(
  bases: Basis[][],
  widths: Uint8Array[][],
  options: CodecOptions,
  coded: number,
  centreBytes: number,
): number {
  let bytes = 0;
  bases.forEach((layer, l) => {
    layer.forEach((basis, g) => {
      const kept = keptChannels(widths[l][g], basis);
      const planes = planeCount(countWidths(kept.widths)) * PLANE_BYTES * blockCount(coded);
      const once = centreBytes ? centreBytes * basis.dim : 8 + coded;
      bytes +=
        planes +
        BOOK_BYTES * kept.widths.length +
        basisBytes(codeBasis(basis, kept, coded, options.basisBits), basis.dim) +
        once;
    });
  });
  return bytes;
}
