/** What a model says through a compressed cache against what it says through the exact one, a token at a time. */

/** Least positive normal f32: stands for a probability that became 0, so that divergences stay finite. */
const LEAST = 2 ** -126;

/** Adds up to 1, in place: engines' probabilities miss it by some 1e-4. */
export function normalise(probabilities: Float32Array): Float32Array {
  let sum = 0;
  for (const p of probabilities) sum += p;
  for (let i = 0; i < probabilities.length; i++) probabilities[i] /= sum;
  return probabilities;
}

/** Kullback-Leibler divergence of q from p in nats: sum of p log(p / q). */
export function divergence(p: Float32Array, q: Float32Array): number {
  if (p.length !== q.length) throw new RangeError(`q.length: expected ${p.length} as p has, got ${q.length}`);
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    if (p[i] > 0) sum += p[i] * Math.log(p[i] / Math.max(q[i], LEAST));
  }
  // Below 0 by rounding only.
  return Math.max(0, sum);
}

/** Index of the largest; the first of equals. */
export function top(p: Float32Array): number {
  let best = 0;
  for (let i = 1; i < p.length; i++) if (p[i] > p[best]) best = i;
  return best;
}

/** Of values in any order, `part` from 0 to 1, straight between neighbours (as numpy's default). */
export function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = part * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
}

export interface Difference {
  /** exp(mean loss) over that of the exact run, less 1. */
  perplexityChange: number;
  /** Mean and 99th percentile over tokens, in nats. */
  kl: number;
  kl99: number;
  /** Part of the tokens where both runs hold the same token likeliest. */
  top1: number;
}

/** Gathers over tokens; over texts by `join`. */
export class Measures {
  readonly #divergences: number[] = [];
  #agreed = 0;
  /** Sum of log p(next) - log q(next). */
  #lost = 0;

  /** One token: distributions of both runs, and the token that the text goes on with. */
  add(exact: Float32Array, got: Float32Array, next: number): void {
    this.#divergences.push(divergence(exact, got));
    if (top(exact) === top(got)) this.#agreed++;
    this.#lost += Math.log(Math.max(exact[next], LEAST)) - Math.log(Math.max(got[next], LEAST));
  }

  /** Takes over what another has gathered. */
  join(other: Measures): void {
    this.#divergences.push(...other.#divergences);
    this.#agreed += other.#agreed;
    this.#lost += other.#lost;
  }

  result(): Difference {
    const count = this.#divergences.length;
    return {
      perplexityChange: Math.expm1(this.#lost / count),
      kl: this.#divergences.reduce((sum, x) => sum + x, 0) / count,
      kl99: percentile(this.#divergences, 0.99),
      top1: this.#agreed / count,
    };
  }
}
