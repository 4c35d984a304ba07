/**
 * Attention KL from spectra. Under the queries' metric a channel's variance is its part of a score's variance, so codes
 * of distortion D leave an error of variance v * D in the score; a softmax whose logits are off by independent errors of
 * variance s has a divergence of about s / 2.
 */
import { allocate, DISTORTION } from "./allocation.ts";
import type { KeyBasis } from "./key-codec.ts";

/** Mean over kv heads of the predicted KL in nats, for key bases under a metric and the errors of their channels. */
function predictedKl(bases: KeyBasis[], errors: Float64Array[], headDim: number): number {
  const heads = bases.reduce((sum, { headCount }) => sum + headCount, 0);
  const error = errors.reduce((sum, channels) => channels.reduce((part, x) => part + x, sum), 0);
  return error / heads / headDim / 2;
}

/** The fewest bits an element, to a sixteenth, whose predicted KL is at most `target`; 8 where none is. */
export function bitsForKl(bases: KeyBasis[], headDim: number, target: number): number {
  const spectra = bases.map(({ basis }) => basis.variance);
  const dims = bases.reduce((sum, { basis }) => sum + basis.dim, 0);
  let [low, high] = [1, 128];
  while (low < high) {
    const middle = (low + high) >> 1;
    const widths = allocate(spectra, Math.floor((middle / 16) * dims));
    const errors = widths.map((of, i) => spectra[i].map((variance, channel) => variance * DISTORTION[of[channel]]));
    if (predictedKl(bases, errors, headDim) <= target) high = middle;
    else low = middle + 1;
  }
  return low / 16;
}
