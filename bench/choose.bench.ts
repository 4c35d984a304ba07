/** The greatest standings of a long context, and the nibbles of those tokens, against plain typed-array JavaScript. */
import { BLOCK_TOKENS, PLANE_BYTES } from "../src/codec/layout.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { type BenchRow, measure, row } from "./harness.ts";

const [TOKENS, QUERIES, PLANES] = [32768, 3, 32];
const WANTED = TOKENS / 32;
const EIGHTS = TOKENS / 8;

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const [ours, twin] = [times(runtime), times(reference)];
  const scores = Array.from({ length: QUERIES }, (_, q) => noise(TOKENS, q + 1));
  const sorted = measure(() => {
    const best = scores[0].map((_, i) => Math.max(scores[0][i], scores[1][i], scores[2][i]));
    const least = best.slice().sort()[TOKENS - WANTED];
    const chosen: number[] = [];
    for (let i = 0; i < TOKENS; i++) if (best[i] >= least) chosen.push(i);
  });
  const work = `of ${TOKENS} tokens`;
  return [
    row("choose", `standings and chooseTokens ${work}, 1 in 32`, ours.choose, "typed-array JavaScript, sort", sorted),
    row("choose", `sampledExponentials ${work}`, ours.rest, "TypeScript twin", twin.rest),
    row("choose", `gatherTokens ${work}, 1 in 32, ${PLANES} planes`, ours.gather, "TypeScript twin", twin.gather),
  ];
}

function times({ kernels, heap }: Runtime): { choose: number; rest: number; gather: number } {
  const blocks = TOKENS / BLOCK_TOKENS;
  return heap.scratch((frame) => {
    const [scoresPtr, standingsPtr, bestPtr, offsetsPtr, numbersPtr, scratchPtr, listPtr] = [
      QUERIES * TOKENS, TOKENS, EIGHTS, QUERIES, TOKENS, TOKENS, blocks,
    ].map((n) => frame.reserve(4 * n)); // biome-ignore format: a line
    const blockBytes = PLANES * PLANE_BYTES + BLOCK_TOKENS;
    const [blocksPtr, outPtr] = [blocks, WANTED / BLOCK_TOKENS].map((n) => frame.reserve(n * blockBytes));
    for (let q = 0; q < QUERIES; q++) heap.f32(scoresPtr + 4 * q * TOKENS, TOKENS).set(noise(TOKENS, q + 1));
    heap.u32(listPtr, blocks).set(Uint32Array.from({ length: blocks }, (_, i) => blocksPtr + i * blockBytes));
    const choose = measure(() => {
      kernels.standings(standingsPtr, bestPtr, scoresPtr, offsetsPtr, EIGHTS, QUERIES, TOKENS);
      kernels.chooseTokens(numbersPtr, standingsPtr, bestPtr, scratchPtr, TOKENS, WANTED);
    });
    return {
      choose,
      rest: measure(() => kernels.sampledExponentials(scoresPtr, standingsPtr, blocks, 1, 0.9, 1, 0.125)),
      gather: measure(() => kernels.gatherTokens(outPtr, listPtr, numbersPtr, WANTED, PLANES, BLOCK_TOKENS)),
    };
  });
}
