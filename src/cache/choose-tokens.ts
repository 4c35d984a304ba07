/** Which tokens a kv head attends to under a budget, and what the others weigh together (docs/adr/0051). */
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { AttendCall, ChosenTokens, Segment } from "./attention.ts";
import type { GroupTokens } from "./group-tokens.ts";
import { scanHead } from "./scan.ts";

/** Tokens whose greatest standing is kept together. */
const EIGHT = 8;
/** `sampledExponentials` looks at one token in so many. */
const SAMPLED = 8;
/** Of more blocks than that, at least so many stand for all. */
const SAMPLED_BLOCKS = 512;

/**
 * The `wanted` tokens that stand out most to one of a kv head's queries: by score above the score that the query would
 * still take, were the tokens shared out evenly. By attention instead, the sharpest query takes most tokens.
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
    scanHead(call, segment, group, head, "all", maximaPtr, (query, from) => ({
      ptr: scoresPtr + 4 * (query * stride + from * BLOCK_TOKENS),
      stride,
    }));
    const step = Math.max(1, Math.floor(blocks / SAMPLED_BLOCKS));
    const share = Math.ceil(wanted / shared / step);
    for (let q = 0; q < shared; q++) {
      const [rowPtr, rowMaximaPtr] = [scoresPtr + 4 * q * stride, maximaPtr + 4 * q * blocks];
      heap.f32(offsetsPtr, shared)[q] = kernels.nthScore(rowPtr, rowMaximaPtr, scratchPtr, blocks, step, share);
    }
    kernels.standings(standingsPtr, bestPtr, scoresPtr, offsetsPtr, eights, shared, stride);
    const least = kernels.chooseTokens(numbersPtr, standingsPtr, bestPtr, scratchPtr, group.count, wanted);
    const numbers = heap.u32(numbersPtr, wanted).slice();
    const offsets = heap.f32(offsetsPtr, shared).slice();
    const scale = 1 / Math.sqrt(layer.headDim);
    const sampledPart = Math.ceil(blocks / step) / blocks / SAMPLED;
    const leftOut = Array.from(offsets, (offset, q) => {
      const rowPtr = scoresPtr + 4 * q * stride;
      return kernels.sampledExponentials(rowPtr, standingsPtr, blocks, step, least, offset, scale) / sampledPart;
    });
    const takenPtr = frame.reserve(4 * shared * wanted);
    kernels.takeScores(takenPtr, scoresPtr, numbersPtr, wanted, shared, stride);
    return { numbers, scores: heap.f32(takenPtr, shared * wanted).slice(), offsets, leftOut };
  });
}
