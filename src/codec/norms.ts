/**
 * Norms of values in one byte a token: levels rise geometrically, code c > 0 stands for least * step^c, code 0 for a
 * zero row. Directions are taken against the coded norm, so its rounding costs nothing but a slightly longer or
 * shorter direction (measured in docs/adr/0004).
 */
const LEVELS = 256;
/** Norms below this part of the greatest share the lowest level: 2^-16. */
const RANGE_BITS = 16;

export interface CodedNorms {
  codes: Uint8Array;
  /** f32. */
  least: number;
  /** f32, above 1. */
  step: number;
}

/** Level of each code: (256) f32, by products only, so that every host reads the same bits. */
export function normLevels(norms: { least: number; step: number }): Float32Array {
  const levels = new Float32Array(LEVELS);
  let level = norms.least;
  for (let code = 1; code < LEVELS; code++) {
    level *= norms.step;
    levels[code] = level;
  }
  return levels;
}

/** norms: (tokens), none negative. */
export function codeNorms(norms: Float32Array): CodedNorms {
  const greatest = norms.reduce((a, b) => Math.max(a, b), 0);
  const floor = greatest * 2 ** -RANGE_BITS;
  const least = norms.reduce((a, b) => (b > 0 ? Math.min(a, b) : a), greatest);
  const low = Math.max(least, floor);
  // 256th root by square roots, which every host rounds alike; code 1 to 255 are 254 steps, so a little more a step.
  let step = greatest > 0 ? greatest / low : 1;
  for (let i = 0; i < 8; i++) step = Math.sqrt(step);
  step = Math.max(step * (1 + (step - 1) / 120), 1 + 2 ** -20);
  // Up to the next f32 of 1 to 2: 254 steps that were each rounded down would end below the greatest.
  step = Math.ceil(step * 2 ** 23) / 2 ** 23;
  const coded = { least: Math.fround(low / step), step };
  const levels = normLevels(coded);
  return { ...coded, codes: Uint8Array.from(norms, (norm) => (norm > 0 ? nearestNorm(levels, norm) : 0)) };
}

/** Code from 1 of the level nearest to `norm`. */
export function nearestNorm(levels: Float32Array, norm: number): number {
  let low = 1;
  let high = LEVELS - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (levels[middle] < norm) low = middle + 1;
    else high = middle;
  }
  return low > 1 && norm - levels[low - 1] < levels[low] - norm ? low - 1 : low;
}
