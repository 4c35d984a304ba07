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

/**
 * Widths for the channels of all groups together, at most `totalBits` a token with the padding of planes counted.
 * variances: a spectrum a group, falling. Channels of zero variance get 0.
 */
export function allocate(variances: Float64Array[], totalBits: number): Uint8Array[] {
  const groups = variances.map((variance) => new Spectrum(variance));
  const atPrice = (price: number): Shares[] => groups.map((group) => group.cheapest(price));
  const bitsAt = (shares: Shares[]): number => shares.reduce((sum, share) => sum + share.bits, 0);
  let high = groups.reduce((top, group) => Math.max(top, group.variance[0] ?? 0), 0);
  let low = 0;
  let best = atPrice(2 * high);
  if (high === 0) return best.map((share, i) => widthsOf(share, variances[i].length));
  for (let i = 0; i < BISECTIONS; i++) {
    // Prices span many powers of ten: halve the exponent's range first, then the rest.
    const price = low > 0 ? Math.sqrt(low * high) : high / 1e4;
    const shares = atPrice(price);
    if (bitsAt(shares) <= totalBits) [high, best] = [price, shares];
    else low = price;
    if (high < Number.MIN_VALUE * 1e8) break;
  }
  spendRest(groups, best, totalBits - bitsAt(best));
  return best.map((share, i) => widthsOf(share, variances[i].length));
}

/** The same bits for equal parts of the channels, as the SVDq paper does; a last part takes the remainder. */
export function schedule(channels: number, widths: number[]): Uint8Array {
  const part = Math.max(1, Math.floor(channels / widths.length));
  return Uint8Array.from({ length: channels }, (_, i) => widths[Math.min(widths.length - 1, Math.floor(i / part))]);
}

const BISECTIONS = 60;

/** Channels of a group from the strongest on: `ends[i]` is where those of width 8, 4, 2, 1 end. */
interface Shares {
  ends: [number, number, number, number];
  /** Bits a token of the planes. */
  bits: number;
  distortion: number;
}

/** How far each end is tried from where it stands, or from the optimum without padding. */
const REACH = [1, 1, 2, 4];

class Spectrum {
  readonly variance: Float64Array;
  /** Sum of the first i variances. */
  readonly #sums: Float64Array;

  constructor(variance: Float64Array) {
    this.variance = variance;
    this.#sums = new Float64Array(variance.length + 1);
    variance.forEach((x, i) => {
      this.#sums[i + 1] = this.#sums[i] + x;
    });
  }

  /** Shares that make distortion + price * bits least. */
  cheapest(price: number): Shares {
    let best = this.#shares([0, 0, 0, 0]);
    const middle = [8, 4, 2, 1].map((width) => this.#endOf(width, price));
    this.#near(middle, (shares) => {
      if (shares.distortion + price * shares.bits < best.distortion + price * best.bits) best = shares;
    });
    return best;
  }

  /** The step from `shares` that takes off most distortion a bit, for `rest` bits at most; undefined where none does. */
  bestStep(shares: Shares, rest: number): Shares | undefined {
    let best: Shares | undefined;
    let most = 0;
    this.#near(shares.ends, (next) => {
      const bits = next.bits - shares.bits;
      const gain = (shares.distortion - next.distortion) / Math.max(1, bits);
      if (bits <= rest && gain > most) [best, most] = [next, gain];
    });
    return best;
  }

  /** Visits the shares whose ends are within reach of `middle`. */
  #near(middle: number[], visit: (shares: Shares) => void): void {
    const most = this.#endOf(1, 0);
    const around = (i: number, from: number): number[] => {
      const [first, last] = [Math.max(from, middle[i] - REACH[i]), Math.min(most, middle[i] + REACH[i])];
      return Array.from({ length: Math.max(0, last - first + 1) }, (_, k) => first + k);
    };
    for (const e8 of around(0, 0)) {
      for (const e4 of around(1, e8)) {
        for (const e2 of around(2, e4)) for (const e1 of around(3, e2)) visit(this.#shares([e8, e4, e2, e1]));
      }
    }
  }

  /** Channels worth `width` bits at that price when padding costs nothing; variances fall, so they come first. */
  #endOf(width: number, price: number): number {
    const from = WIDTHS[WIDTHS.indexOf(width as (typeof WIDTHS)[number]) - 1];
    const least = (price * (width - from)) / (DISTORTION[from] - DISTORTION[width]);
    let [low, high] = [0, this.variance.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.variance[middle] > least) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #shares(ends: Shares["ends"]): Shares {
    const [e8, e4, e2, e1] = ends;
    const sums = this.#sums;
    const part = (from: number, to: number, width: number): number => (sums[to] - sums[from]) * DISTORTION[width];
    const rest = sums[sums.length - 1] - sums[e1];
    return {
      ends,
      bits: 8 * e8 + 4 * (e4 - e8 + Math.ceil((e2 - e4) / 2) + Math.ceil((e1 - e2) / 4)),
      distortion: part(0, e8, 8) + part(e8, e4, 4) + part(e4, e2, 2) + part(e2, e1, 1) + rest,
    };
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
