/**
 * Bits a latent channel by greedy marginal returns (reverse water-filling with real quantizers, Cover and Thomas
 * ch. 10): spend where a bit removes most variance. Because Lloyd-Max distortion is convex over the widths, the greedy
 * order is one sort over all steps of all channels.
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
 * Widths for the channels of all groups together, at most `totalBits` a token with the padding of planes counted
 * (see layout.ts): what padding takes is saved elsewhere, and free places in planes are given to the next channels.
 * variances: a spectrum a group, falling. Channels of zero variance get 0.
 */
export function allocate(variances: Float64Array[], totalBits: number): Uint8Array[] {
  let budget = totalBits;
  for (;;) {
    const widths = greedy(variances, budget);
    const excess = widths.reduce((sum, w) => sum + paddedBits(w), 0) - totalBits;
    if (excess <= 0) {
      widths.forEach((w, group) => fillPlanes(w, variances[group]));
      return widths;
    }
    budget -= Math.max(1, excess);
  }
}

/** The same bits for equal parts of the channels, as the SVDq paper does; a last part takes the remainder. */
export function schedule(channels: number, widths: number[]): Uint8Array {
  const part = Math.max(1, Math.floor(channels / widths.length));
  return Uint8Array.from({ length: channels }, (_, i) => widths[Math.min(widths.length - 1, Math.floor(i / part))]);
}

interface Step {
  gain: number;
  group: number;
  channel: number;
  from: number;
  to: number;
}

function greedy(variances: Float64Array[], totalBits: number): Uint8Array[] {
  const steps: Step[] = [];
  variances.forEach((variance, group) => {
    variance.forEach((x, channel) => {
      for (let i = 1; x > 0 && i < WIDTHS.length; i++) {
        const [from, to] = [WIDTHS[i - 1], WIDTHS[i]];
        steps.push({ gain: (x * (DISTORTION[from] - DISTORTION[to])) / (to - from), group, channel, from, to });
      }
    });
  });
  steps.sort((a, b) => b.gain - a.gain);
  const widths = variances.map((variance) => new Uint8Array(variance.length));
  let rest = totalBits;
  for (const { group, channel, from, to } of steps) {
    if (to - from > rest || widths[group][channel] !== from) continue;
    widths[group][channel] = to;
    rest -= to - from;
  }
  return widths;
}

function count(widths: Uint8Array, width: number): number {
  return widths.reduce((n, w) => n + (w === width ? 1 : 0), 0);
}

/** Bits a token of the planes of a group. */
function paddedBits(widths: Uint8Array): number {
  const whole = 8 * count(widths, 8) + 4 * count(widths, 4);
  return whole + 4 * Math.ceil(count(widths, 2) / 2) + 4 * Math.ceil(count(widths, 1) / 4);
}

/** Gives free places of the last 2-bit and 1-bit planes to the strongest channels below. */
function fillPlanes(widths: Uint8Array, variance: Float64Array): void {
  const onePlaces = 4 * Math.ceil(count(widths, 1) / 4);
  if (count(widths, 2) % 2 === 1) promote(widths, variance, onePlaces > 0 ? 1 : 0, 2);
  for (let free = onePlaces - count(widths, 1); free > 0; free--) promote(widths, variance, 0, 1);
}

function promote(widths: Uint8Array, variance: Float64Array, from: number, to: number): void {
  let best = -1;
  for (let i = 0; i < widths.length; i++) {
    if (widths[i] === from && variance[i] > 0 && (best < 0 || variance[i] > variance[best])) best = i;
  }
  if (best >= 0) widths[best] = to;
}
