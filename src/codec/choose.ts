/**
 * Bits of keys and of values for a goal, on the cache itself: the fewest bytes that an expected loss allows, or the
 * least expected loss that a number of bytes allows. All pairs of a ladder of bits are looked at, with what codes at these
 * will take and lose (forecast.ts, expected-kl.ts).
 */
import { UnsupportedError } from "../errors.ts";
import { expectedKl, klOfErrors } from "./expected-kl.ts";
import { forecastKeys, forecastValues } from "./forecast.ts";
import type { CodecOptions } from "./options.ts";
import { type CacheSpectra, hasFisher } from "./spectra.ts";

export interface Choice {
  keyBits: number;
  valueBits: number;
  /** Next-token KL in nats; null without the model's Fisher information, where nothing can be said. */
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
/** Of key bits over value bits, where nothing weighs one against the other: that of the defaults. */
const PLAIN_PROPORTION = 1.25 / 2;

/** Every pair of the ladder, in planes or at entropy, for a cache of `coded` tokens between the exact ones. */
export function choicesOf(spectra: CacheSpectra, options: CodecOptions, coded: number): Choice[] {
  const known = hasFisher(spectra);
  const keys = LADDER.map((bits) => ({ bits, ...forecastKeys(spectra, options, coded, bits) }));
  const values = LADDER.map((bits) => ({ bits, ...forecastValues(spectra, options, coded, bits) }));
  const [keyKl, valueKl] = [keys, values].map((all) => all.map(({ errors }) => klOfErrors(errors)));
  return keys.flatMap((key, i) =>
    values.map((value, j) => ({
      keyBits: key.bits,
      valueBits: value.bits,
      expectedKl: known ? expectedKl(keyKl[i], valueKl[j]) : null,
      codedBytes: key.bytes + value.bytes,
    })),
  );
}

/** The fewest bytes at that loss or less. UnsupportedError without Fisher information, and where no setting is so exact. */
export function chooseForKl(choices: Choice[], target: number): Choice {
  const known = choices.filter((choice) => choice.expectedKl !== null);
  if (known.length === 0) {
    throw new UnsupportedError("targetKl: expected a profile with the model's Fisher information, got none");
  }
  const good = known.filter((choice) => (choice.expectedKl as number) <= target);
  if (good.length > 0) return least(good, ({ codedBytes }) => codedBytes);
  const best = Math.min(...known.map((choice) => choice.expectedKl as number));
  throw new UnsupportedError(
    `targetKl: expected at least ${best.toPrecision(2)}, what most bits give here, got ${target}`,
  );
}

/** The least loss within those bytes; without Fisher information the most bits, shared as in the defaults. Undefined if none. */
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
