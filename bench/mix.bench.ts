/** Weighted sums of value planes against those of f32 values, the work that they replace, and against the twins. */
import {
  BLOCK_TOKENS,
  blockCount,
  channelCount,
  GROUP,
  levelParts,
  mixScaleCount,
  mixScratchBytes,
  mixSumBytes,
  PART_LEVELS,
  planeCount,
  valueBlockBytes,
  type WidthCounts,
} from "../src/codec/layout.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { denseTimes } from "./dense.bench.ts";
import { type BenchRow, measure, row } from "./harness.ts";

const QUERIES = 3;
/** 32 planes for a head of 64 and 64 for one of 128: 2 bits an element. */
const GROUPS: [dim: number, counts: WidthCounts][] = [
  [64, { count8: 0, count4: 12, count2: 32, count1: 16 }],
  [128, { count8: 0, count4: 24, count2: 64, count1: 32 }],
];
const TOKENS = [8192, 32768];
const SMALL = 2048;

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const [dim, counts] of GROUPS) {
    const planes = planeCount(counts);
    for (const tokens of TOKENS) {
      const ours = times(runtime, counts, tokens);
      const dense = denseTimes(runtime, tokens, dim, QUERIES);
      const name = `mixPlanes ${QUERIES} queries, ${tokens} tokens, ${planes} planes, ${levelParts(counts)} of levels`;
      rows.push(row("mix", name, ours.mix, `mixRows, dim ${dim}`, dense.mix));
    }
    const [ours, twin] = [runtime, reference].map((kernels) => times(kernels, counts, SMALL));
    const work = `${QUERIES} queries, ${planes} planes`;
    rows.push(
      row("mix", `mixPlanes ${work}, ${SMALL} tokens`, ours.mix, "TypeScript twin", twin.mix),
      row("mix", `foldMix ${work}`, ours.fold, "TypeScript twin", twin.fold),
      row("mix", `blockWeights ${QUERIES} queries, ${SMALL} tokens`, ours.worth, "TypeScript twin", twin.worth),
    );
  }
  return rows;
}

function times({ kernels, heap }: Runtime, counts: WidthCounts, tokens: number) {
  const [parts, blocks, blockBytes] = [levelParts(counts), blockCount(tokens), valueBlockBytes(planeCount(counts))];
  return heap.scratch((frame) => {
    const [levelsPtr, normsPtr, scalesPtr, factorsPtr] = [
      2 * PART_LEVELS * parts,
      4 * 256,
      4 * mixScaleCount(counts),
      4 * QUERIES,
    ].map((n) => frame.reserve(n));
    // Levels whose high bytes keep them within MIX_LEVEL.
    heap.u8(levelsPtr, 2 * PART_LEVELS * parts).fill(3);
    heap.f32(normsPtr, 256).fill(1);
    heap.f32(scalesPtr, mixScaleCount(counts)).fill(1);
    heap.f32(factorsPtr, QUERIES).fill(1);
    const [blocksPtr, listPtr, weightsPtr, worthPtr] = [
      blocks * blockBytes,
      8 * blocks,
      4 * QUERIES * tokens,
      4 * blocks,
    ].map((n) => frame.reserve(n));
    heap.u8(blocksPtr, blocks * blockBytes).set(Uint8Array.from(noise(blocks * blockBytes), (x) => 128 + 128 * x));
    heap.f32(weightsPtr, QUERIES * tokens).set(noise(QUERIES * tokens, 2).map((x) => Math.abs(x) / tokens));
    heap.u32(listPtr, 2 * blocks).forEach((_, i, list) => {
      list[i] = i % 2 ? weightsPtr + 4 * BLOCK_TOKENS * (i >> 1) : blocksPtr + blockBytes * (i >> 1);
    });
    const groupPtr = frame.reserve(GROUP.bytes);
    const { count8, count4, count2, count1 } = counts;
    const group = [count8, count4, count2, count1, levelsPtr, normsPtr, QUERIES, tokens];
    heap.u32(groupPtr, GROUP.bytes / 4).set(group);
    const [sumsPtr, scratchPtr, latentsPtr] = [
      mixSumBytes(counts, QUERIES),
      mixScratchBytes(QUERIES),
      4 * channelCount(counts) * QUERIES,
    ].map((n) => frame.reserve(n));
    heap.u8(sumsPtr, mixSumBytes(counts, QUERIES)).fill(0);
    return {
      mix: measure(() => kernels.mixPlanes(sumsPtr, listPtr, groupPtr, scratchPtr, blocks)),
      fold: measure(() => kernels.foldMix(latentsPtr, sumsPtr, scalesPtr, groupPtr, QUERIES, QUERIES)),
      worth: measure(() => kernels.blockWeights(worthPtr, weightsPtr, factorsPtr, blocks, QUERIES, tokens)),
    };
  });
}
