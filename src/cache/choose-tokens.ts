/** Which tokens a kv head attends to under a budget, and what the others weigh together (docs/adr/0045). */
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { AttendCall, ChosenTokens, Segment } from "./attention.ts";
import { nthGreatest } from "./greatest.ts";
import type { GroupTokens } from "./group-tokens.ts";
import { scanHead } from "./scan.ts";

/** Tokens whose greatest standing is kept together. */
const EIGHT = 8;
/** `sampledExponentials` looks at one token in so many. */
const SAMPLED = 8;

/**
 * The `wanted` tokens that stand out most to one of a kv head's queries: by score above the score that the query would
 * still take, were the tokens shared out evenly. That score is taken to be the best of the last block it would look
 * into. By attention instead, the sharpest query takes most tokens.
 */
export function chooseTokens(
  call: AttendCall,
  segment: Segment,
  group: GroupTokens,
  head: number,
  wanted: number,
): ChosenTokens {
  const { runtime, layer, shared } = call;
  const { kernels, heap } = runtime;
  const blocks = group.blocks.length;
  const [stride, eights] = [blocks * BLOCK_TOKENS, (blocks * BLOCK_TOKENS) / EIGHT];
  return heap.scratch((frame) => {
    const maximaPtr = frame.reserve(4 * shared * blocks);
    const scoresPtr = frame.reserve(4 * shared * stride);
    const [offsetsPtr, standingsPtr, bestPtr] = [shared, stride, eights].map((n) => frame.reserve(4 * n));
    const [numbersPtr, scratchPtr] = [stride, stride].map((n) => frame.reserve(4 * n));
    scanHead(call, segment, group, head, maximaPtr, (query, from) => ({
      ptr: scoresPtr + 4 * (query * stride + from * BLOCK_TOKENS),
      stride,
    }));
    const offsets = Float32Array.from({ length: shared }, (_, q) =>
      offsetOf(heap.f32(maximaPtr + 4 * q * blocks, blocks), wanted / shared),
    );
    heap.f32(offsetsPtr, shared).set(offsets);
    kernels.standings(standingsPtr, bestPtr, scoresPtr, offsetsPtr, eights, shared, stride);
    const least = kernels.chooseTokens(numbersPtr, standingsPtr, bestPtr, scratchPtr, group.count, wanted);
    const numbers = heap.u32(numbersPtr, wanted).slice();
    const tops = Float32Array.from({ length: shared }, (_, q) =>
      greatestOf(heap.f32(maximaPtr + 4 * q * blocks, blocks)),
    );
    const scale = 1 / Math.sqrt(layer.headDim);
    const leftOut = Array.from(
      tops,
      (top, q) =>
        SAMPLED * kernels.sampledExponentials(scoresPtr + 4 * q * stride, standingsPtr, blocks, least, top, scale),
    );
    const all = heap.f32(scoresPtr, shared * stride);
    const scores = new Float32Array(shared * wanted);
    for (let q = 0; q < shared; q++) {
      for (let i = 0; i < wanted; i++) scores[q * wanted + i] = all[q * stride + numbers[i]];
    }
    return { numbers, scores, tops, leftOut };
  });
}

/** More would not make the offset better. */
const MOST_MAXIMA = 1024;

/** The best score of the last of `share` blocks, from a sample of the blocks where they are many. */
function offsetOf(maxima: Float32Array, share: number): number {
  const step = Math.ceil(maxima.length / MOST_MAXIMA);
  const sample = Float32Array.from({ length: Math.floor(maxima.length / step) }, (_, i) => maxima[i * step]);
  return nthGreatest(sample, Math.min(sample.length, Math.ceil(share / step)));
}

const greatestOf = (row: Float32Array): number => {
  let top = row[0];
  for (let i = 1; i < row.length; i++) if (row[i] > top) top = row[i];
  return top;
};
