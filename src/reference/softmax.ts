/** Twin of assembly/softmax.ts. */
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";
import { nearestEven } from "./rounding.ts";

const { fround } = Math;
const LEAST_EXPONENT = -87;
/** Taylor coefficients of exp, highest first, in f32. */
const COEFFICIENTS = [1.38888889e-3, 8.33333333e-3, 4.16666667e-2, 1.66666667e-1, 0.5, 1, 1].map(fround);

export const softmaxTwins = (views: Views): Pick<Kernels, "softmax" | "exponentials" | "sampledExponentials"> => {
  const exponentials: Kernels["exponentials"] = (weightsPtr, scoresPtr, count, scale) => {
    const scores = views.f32(scoresPtr, count).slice();
    const weights = views.f32(weightsPtr, count);
    const greatest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const whole = count - (count % 4);
    const lanes = [0, 0, 0, 0];
    for (let i = 0; i < count; i++) {
      weights[i] = exp(fround(fround(scores[i] - greatest) * fround(scale)));
      if (i < whole) lanes[i % 4] += weights[i];
    }
    let sum = lanes[0] + lanes[1] + (lanes[2] + lanes[3]);
    for (let i = whole; i < count; i++) sum += weights[i];
    return sum;
  };
  return {
    exponentials,
    sampledExponentials(scoresPtr, standingsPtr, blockCount, blockStep, least, from, scale) {
      const scores = views.f32(scoresPtr, BLOCK_TOKENS * blockCount);
      const standings = views.f32(standingsPtr, BLOCK_TOKENS * blockCount);
      const lanes = [0, 0, 0, 0];
      for (let block = 0, n = 0; block < blockCount; block += blockStep, n++) {
        for (let lane = 0; lane < 4; lane++) {
          const i = block * BLOCK_TOKENS + 4 * (n % 8) + lane;
          const weight = exp(fround(fround(scores[i] - fround(from)) * fround(scale)));
          if (standings[i] < fround(least)) lanes[lane] += weight;
        }
      }
      return lanes[0] + lanes[1] + (lanes[2] + lanes[3]);
    },
    softmax(weightsPtr, scoresPtr, count, scale) {
      const sum = exponentials(weightsPtr, scoresPtr, count, scale);
      const inverse = fround(1 / sum);
      const weights = views.f32(weightsPtr, count);
      for (let i = 0; i < count; i++) weights[i] *= inverse;
      return sum;
    },
  };
};

function exp(x: number): number {
  if (!(x >= LEAST_EXPONENT)) return 0;
  const n = nearestEven(fround(x * fround(1.44269504)));
  const high = fround(x - fround(n * fround(0.693359375)));
  const r = fround(high - fround(n * fround(-2.1219444e-4)));
  let p = COEFFICIENTS[0];
  for (const coefficient of COEFFICIENTS.slice(1)) p = fround(fround(p * r) + coefficient);
  return p * 2 ** n; // exact: a power of two, and no result is below the normal numbers
}
