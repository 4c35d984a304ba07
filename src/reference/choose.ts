/** Twins of assembly/choose.ts. */
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";

const { fround } = Math;

export const chooseTwins = (views: Views): Pick<Kernels, "standings" | "chooseTokens"> => ({
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
});
