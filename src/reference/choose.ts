/** Twins of assembly/choose.ts. */
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";

const { fround } = Math;

export const chooseTwins = (views: Views): Pick<Kernels, "nthScore" | "standings" | "chooseTokens" | "takeScores"> => ({
  nthScore(scoresPtr, _maximaPtr, _scratchPtr, blockCount, blockStep, n) {
    const scores = views.f32(scoresPtr, BLOCK_TOKENS * blockCount);
    const sampled = scores.filter((_, i) => Math.floor(i / BLOCK_TOKENS) % blockStep === 0).sort();
    return sampled[sampled.length - n];
  },

  standings(outPtr, maximaPtr, scoresPtr, offsetsPtr, groupCount, queryCount, scoreStride) {
    const out = views.f32(outPtr, 8 * groupCount);
    const offsets = views.f32(offsetsPtr, queryCount);
    offsets.forEach((offset, q) => {
      views.f32(scoresPtr + 4 * q * scoreStride, out.length).forEach((score, i) => {
        const standing = fround(score - offset);
        if (q === 0 || out[i] < standing) out[i] = standing;
      });
    });
    const maxima = views.f32(maximaPtr, groupCount);
    for (let i = 0; i < groupCount; i++) maxima[i] = Math.max(...out.subarray(8 * i, 8 * i + 8));
  },

  chooseTokens(numbersPtr, standingsPtr, _maximaPtr, _scratchPtr, count, wanted) {
    const standings = views.f32(standingsPtr, count);
    const order = Array.from(standings.keys()).sort((a, b) => standings[b] - standings[a] || a - b);
    const chosen = order.slice(0, wanted).sort((a, b) => a - b);
    views.u32(numbersPtr, wanted).set(chosen);
    return standings[order[wanted - 1]];
  },

  takeScores(outPtr, scoresPtr, numbersPtr, count, queryCount, scoreStride) {
    const out = views.f32(outPtr, queryCount * count);
    views.u32(numbersPtr, count).forEach((token, i) => {
      for (let q = 0; q < queryCount; q++)
        out[q * count + i] = views.f32(scoresPtr + 4 * (q * scoreStride + token), 1)[0];
    });
  },
});
