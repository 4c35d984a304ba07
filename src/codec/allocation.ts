/**
 * Bits a latent channel by one price of a bit for all groups (reverse water-filling with real quantizers, Cover and
 * Thomas ch. 10): each group takes the widths that make distortion + price * bits least, and the price is the lowest
 * that the budget allows. Bits are counted as planes hold them (layout.ts), so a group weighs a whole plane against
 * its padding; measured on real caches, cutting planes after the fact cost a tenth more KL at 24 small groups.
 */

import { WIDTHS } from "./layout.ts";
import { LLOYD_MAX } from "./lloyd-max.ts";

/** Distortion of a unit normal at each width: 0, 1, 2, 4 bits by Lloyd-Max; 8 by 6 dB a bit from 6. */
export const DISTORTION: Record<number, number> = {
  0: 1,
  1: LLOYD_MAX[1].distortion,
  2: LLOYD_MAX[2].distortion,
  4: LLOYD_MAX[4].distortion,
  8: LLOYD_MAX[6].distortion / 16,
};

const [, D1, D2, D4, D8] = WIDTHS.map((width) => DISTORTION[width]);

/**
 * Widths for the channels of all groups together, at most `totalBits` a token with the padding of planes counted.
 * variances: a spectrum a group, falling. Channels of zero variance get 0; with `leastWidth` 2 none gets 1 bit.
 */
export function allocate(variances: Float64Array[], totalBits: number, leastWidth: 1 | 2 = 1): Uint8Array[] {
  const groups = variances.map((variance) => new Spectrum(variance, leastWidth));
  const shares = sharesWithin(groups, totalBits);
  spendRest(groups, shares, totalBits - bitsOf(shares));
  return shares.map((share, i) => widthsOf(share, variances[i].length));
}

/** Shares at the lowest price that `totalBits` allows. */
function sharesWithin(groups: Spectrum[], totalBits: number): Shares[] {
  const atPrice = (price: number): Shares[] => groups.map((group) => group.cheapest(price));
  const full = atPrice(0);
  if (bitsOf(full) <= totalBits) return full;
  // At twice the greatest variance nobody buys a bit.
  const dearest = 2 * groups.reduce((top, group) => Math.max(top, group.variance[0] ?? 0), 0);
  let best = atPrice(dearest);
  const fits = (price: number): boolean => {
    const shares = atPrice(price);
    if (bitsOf(shares) > totalBits) return false;
    best = shares;
    return true;
  };
  // Without padding a price is tried in a fraction of the time, and the one that padding asks for is near it.
  const unpadded = (price: number): number => groups.reduce((bits, group) => bits + group.unpaddedBits(price), 0);
  let high = bisect((price) => unpadded(price) <= totalBits, 0, dearest);
  while (!fits(high) && high < dearest) high *= GALLOP;
  let low = high / GALLOP;
  while (fits(low)) [low, high] = [low / GALLOP, low];
  bisect(fits, low, high);
  return best;
}

/** The lowest price that fits, between `low`, which does not, and `high`, which does; the last that is found to fit. */
function bisect(fits: (price: number) => boolean, low: number, high: number): number {
  while (high > low * (1 + PRECISION) && high >= LEAST_PRICE) {
    // Prices span many powers of ten: halve the exponent's range.
    const price = low > 0 ? Math.sqrt(low * high) : high / 1e4;
    if (fits(price)) high = price;
    else low = price;
  }
  return high;
}

/** The same bits for equal parts of the channels, as the SVDq paper does; a last part takes the remainder. */
export function schedule(channels: number, widths: number[]): Uint8Array {
  const part = Math.max(1, Math.floor(channels / widths.length));
  return Uint8Array.from({ length: channels }, (_, i) => widths[Math.min(widths.length - 1, Math.floor(i / part))]);
}

/** Prices are told apart to this part. */
const PRECISION = 1e-6;
/** No price is sought below this. */
const LEAST_PRICE = Number.MIN_VALUE * 1e8;
/** From a price to the next, where padding has moved the one sought. */
const GALLOP = 2;

/** Channels of a group from the strongest on: `ends[i]` is where those of width 8, 4, 2, 1 end. */
interface Shares {
  ends: readonly [number, number, number, number];
  /** Bits a token of the planes. */
  bits: number;
  distortion: number;
}

const bitsOf = (shares: Shares[]): number => shares.reduce((sum, share) => sum + share.bits, 0);

/** How far each end is tried from where it stands, or from the optimum without padding. */
const REACH = [1, 1, 2, 4];

class Spectrum {
  readonly variance: Float64Array;
  /** Sum of the first i variances. */
  readonly #sums: Float64Array;
  /** Channels of some variance. */
  readonly #most: number;
  readonly #leastWidth: 1 | 2;

  constructor(variance: Float64Array, leastWidth: 1 | 2) {
    this.variance = variance;
    this.#leastWidth = leastWidth;
    this.#sums = new Float64Array(variance.length + 1);
    variance.forEach((x, i) => {
      this.#sums[i + 1] = this.#sums[i] + x;
    });
    this.#most = this.#endOf(1, 0);
  }

  /** Shares that make distortion + price * bits least. */
  cheapest(price: number): Shares {
    const none: Shares = { ends: [0, 0, 0, 0], bits: 0, distortion: this.#sums[this.variance.length] };
    const cost = (bits: number, distortion: number): number => distortion + price * bits;
    return this.#leastNear(this.#ends(price), cost, none, none.distortion);
  }

  /** What the best shares would take if padding cost nothing. */
  unpaddedBits(price: number): number {
    const [e8, e4, e2, e1] = this.#ends(price);
    return 4 * e8 + 2 * e4 + e2 + e1;
  }

  /** The step from `shares` that takes off most distortion a bit, for `rest` bits at most; undefined where none does. */
  bestStep(shares: Shares, rest: number): Shares | undefined {
    const cost = (bits: number, distortion: number): number => {
      const more = bits - shares.bits;
      return more <= rest ? (distortion - shares.distortion) / Math.max(1, more) : Infinity;
    };
    const best = this.#leastNear(shares.ends, cost, shares, 0);
    return best === shares ? undefined : best;
  }

  /** Of the shares with ends within reach of `middle`, the first that costs least; `start` where none costs less. */
  #leastNear(
    middle: Shares["ends"],
    cost: (bits: number, distortion: number) => number,
    start: Shares,
    startCost: number,
  ): Shares {
    const sums = this.#sums;
    const total = sums[sums.length - 1];
    const first = (i: number, from: number): number => Math.max(from, middle[i] - REACH[i]);
    const last = (i: number): number => Math.min(this.#most, middle[i] + REACH[i]);
    let best = start;
    let least = startCost;
    for (let e8 = first(0, 0); e8 <= last(0); e8++) {
      const d8 = sums[e8] * D8;
      for (let e4 = first(1, e8); e4 <= last(1); e4++) {
        const d4 = d8 + (sums[e4] - sums[e8]) * D4;
        for (let e2 = first(2, e4); e2 <= last(2); e2++) {
          const d2 = d4 + (sums[e2] - sums[e4]) * D2;
          const planes2 = e4 + e8 + ((e2 - e4 + 1) >> 1);
          const [from, to] = this.#leastWidth === 1 ? [first(3, e2), last(3)] : [e2, e2];
          for (let e1 = from; e1 <= to; e1++) {
            const distortion = d2 + (sums[e1] - sums[e2]) * D1 + (total - sums[e1]);
            const bits = 4 * (planes2 + ((e1 - e2 + 3) >> 2));
            const found = cost(bits, distortion);
            if (found < least) {
              least = found;
              best = { ends: [e8, e4, e2, e1], bits, distortion };
            }
          }
        }
      }
    }
    return best;
  }

  /** Ends at that price when padding costs nothing. */
  #ends(price: number): Shares["ends"] {
    const [e8, e4, e2] = [this.#endOf(8, price), this.#endOf(4, price), this.#endOf(2, price)];
    return [e8, e4, e2, this.#leastWidth === 1 ? this.#endOf(1, price) : e2];
  }

  /** Channels worth `width` bits at that price when padding costs nothing; variances fall, so they come first. */
  #endOf(width: number, price: number): number {
    const below = WIDTHS[WIDTHS.indexOf(width as (typeof WIDTHS)[number]) - 1];
    const from = below < this.#leastWidth ? 0 : below;
    const least = (price * (width - from)) / (DISTORTION[from] - DISTORTION[width]);
    let [low, high] = [0, this.variance.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.variance[middle] > least) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Channels of equal variance change at the same price, all or none: what is left buys the best step that it can. */
function spendRest(groups: Spectrum[], shares: Shares[], rest: number): void {
  const steps = groups.map((group, i) => group.bestStep(shares[i], rest));
  const gainOf = (i: number): number => {
    const step = steps[i];
    return step ? (shares[i].distortion - step.distortion) / Math.max(1, step.bits - shares[i].bits) : 0;
  };
  for (;;) {
    const best = groups.reduce((a, _, b) => (gainOf(b) > gainOf(a) ? b : a), 0);
    const step = steps[best];
    if (!step) return;
    rest -= step.bits - shares[best].bits;
    shares[best] = step;
    groups.forEach((group, i) => {
      const tooDear = (steps[i]?.bits ?? 0) - shares[i].bits > rest;
      if (i === best || tooDear) steps[i] = group.bestStep(shares[i], rest);
    });
  }
}

function widthsOf({ ends: [e8, e4, e2, e1] }: Shares, channels: number): Uint8Array {
  return Uint8Array.from({ length: channels }, (_, i) => (i < e8 ? 8 : i < e4 ? 4 : i < e2 ? 2 : i < e1 ? 1 : 0));
}
