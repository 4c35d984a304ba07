/** One query head's attention on codes against exact attention. */
import { nthGreatest } from "../cache/greatest.ts";

/** Tokens of greatest exact weight that a selection should find. */
const TOP_TOKENS = 64;

export interface ScoreDifference {
  /** KL(exact || approximate) in nats among the tokens attended to, both summing to one over them. */
  divergence: number;
  /** Exact weight of the tokens attended to. */
  attendedWeight: number;
  /** Part of the coded tokens of greatest exact weight that is attended to; 1 where there are no coded tokens. */
  recall: number;
}

/**
 * exact: scores q·k by position, not scaled; approximate: scaled ones, -Infinity where a token is left out. coded: the
 * positions that lie in codes, among which selection chooses.
 */
export function compareScores(
  exact: Float32Array,
  approximate: Float32Array,
  scale: number,
  coded: { first: number; count: number },
): ScoreDifference {
  let [top, topAttended, topApproximate] = [-Infinity, -Infinity, -Infinity];
  for (let t = 0; t < exact.length; t++) {
    if (exact[t] > top) top = exact[t];
    if (approximate[t] === -Infinity) continue;
    if (exact[t] > topAttended) topAttended = exact[t];
    if (approximate[t] > topApproximate) topApproximate = approximate[t];
  }
  let [sum, sumAttended, sumApproximate, difference] = [0, 0, 0, 0];
  for (let t = 0; t < exact.length; t++) {
    if (approximate[t] === -Infinity) {
      sum += Math.exp((exact[t] - top) * scale);
      continue;
    }
    const weight = Math.exp((exact[t] - topAttended) * scale);
    sumAttended += weight;
    sumApproximate += Math.exp(approximate[t] - topApproximate);
    difference += weight * ((exact[t] - topAttended) * scale - (approximate[t] - topApproximate));
  }
  const attended = sumAttended * Math.exp((topAttended - top) * scale);
  return {
    // Below zero by rounding alone.
    divergence: Math.max(0, difference / sumAttended + Math.log(sumApproximate / sumAttended)),
    attendedWeight: attended / (sum + attended),
    recall: recallOf(exact, approximate, coded),
  };
}

function recallOf(exact: Float32Array, approximate: Float32Array, { first, count }: { first: number; count: number }) {
  if (count === 0) return 1;
  const least = nthGreatest(exact.slice(first, first + count), Math.min(TOP_TOKENS, count));
  let [wanted, found] = [0, 0];
  for (let t = first; t < first + count; t++) {
    if (exact[t] < least) continue;
    wanted++;
    if (approximate[t] !== -Infinity) found++;
  }
  return found / wanted;
}

/** |o - o'|^2 / |o|^2 of `count` elements from `first` on; an exact output of zero counts as no error. */
export function outputError(exact: Float32Array, approximate: Float32Array, first: number, count: number): number {
  let [error, energy] = [0, 0];
  for (let i = first; i < first + count; i++) {
    error += (exact[i] - approximate[i]) ** 2;
    energy += exact[i] ** 2;
  }
  return energy > 0 ? error / energy : 0;
}
