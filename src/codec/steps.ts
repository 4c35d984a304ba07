/**
 * One step for all channels of a kind, codes at their entropy: reverse water-filling by itself (Cover and Thomas, ch. 10),
 * since channels weaker than a step cost next to nothing. Rates and errors are those of normal channels (step-rates.ts);
 * the codes of real ones take a few per cent less (docs/adr/0031).
 */
import type { Basis } from "./basis.ts";
import { ERRORS, RATES, SPACING } from "./step-rates.ts";

/** A bit less a code costs this part of step^2 in squared error, as where channels are strong: ln 2 / 6. */
const ERROR_OF_A_BIT = 0.1155;
/** About what a row of a basis takes: bits an element, bits a row (basis-codes.ts, books). */
const [ELEMENT_BITS, ROW_BITS] = [4, 88];
const PRECISION = 1e-4;

/** The entry at a deviation in steps, between its neighbours; past the last one `onDouble` says how it goes on. */
function entryAt(table: readonly number[], deviation: number, onDouble: number): number {
  const last = table.length - 1;
  let [x, doubled] = [deviation / SPACING, 0];
  for (; x > last; x /= 2) doubled += onDouble;
  const i = Math.min(last - 1, Math.floor(x));
  return table[i] + (x - i) * (table[i + 1] - table[i]) + doubled;
}

/** Variances of nothing may come out a little below 0. */
const deviationOf = (variance: number, step: number): number => Math.sqrt(Math.max(0, variance)) / step;

/** Bits a code. */
export const rateOf = (deviation: number): number => entryAt(RATES, deviation, 1);
/** Squared error in steps^2. */
export const errorOf = (deviation: number): number => entryAt(ERRORS, deviation, 0);

/** Channels worth their codes and their basis rows in a cache of `tokens`, and the errors of their codes. */
export function keptAt(basis: Basis, step: number, tokens: number) {
  const { variance, spread = variance, dim } = basis;
  const channels: number[] = [];
  const errors: number[] = [];
  const rowBits = (ELEMENT_BITS * dim + ROW_BITS) / tokens;
  variance.forEach((v, channel) => {
    const deviation = deviationOf(v, step);
    const error = errorOf(deviation);
    const gain = deviation * deviation - error;
    if (gain <= ERROR_OF_A_BIT * (rateOf(deviationOf(spread[channel], step)) + rowBits)) return;
    channels.push(channel);
    errors.push(error * step * step);
  });
  return { channels, errors };
}

/** Bits a token of the codes of some channels. */
export const codeBits = ({ variance, spread = variance }: Basis, step: number, channels: number[]): number =>
  channels.reduce((sum, c) => sum + rateOf(deviationOf(spread[c], step)), 0);

/** The common step at which the codes of all bases take `bits` an element. */
export function commonStep(bases: Basis[], bits: number, tokens: number): number {
  const elements = bases.reduce((sum, { dim }) => sum + dim, 0);
  const top = bases.reduce((most, { variance }) => Math.max(most, variance[0] ?? 0), 0);
  if (top === 0) return 1;
  const bitsAt = (step: number): number =>
    bases.reduce((sum, basis) => sum + codeBits(basis, step, keptAt(basis, step, tokens).channels), 0);
  let high = 4 * Math.sqrt(top);
  let low = high / 2;
  while (bitsAt(low) < bits * elements && low > high * 1e-9) low /= 2;
  while (high > low * (1 + PRECISION)) {
    const middle = Math.sqrt(low * high);
    if (bitsAt(middle) <= bits * elements) high = middle;
    else low = middle;
  }
  return high;
}
