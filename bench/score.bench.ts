/** Scores on planes against scores on f32 keys, the work that they replace, and against the twins. */
import {
  BLOCK_TOKENS,
  blockCount,
  channelCount,
  GROUP,
  PART_LEVELS,
  PLANE_BYTES,
  partCount,
  planeCount,
  SCORE_SET,
  scoreScratchBytes,
  scoreSetBytes,
  type WidthCounts,
} from "../src/codec/layout.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { denseTimes } from "./dense.bench.ts";
import { type BenchRow, measure, row } from "./harness.ts";

const QUERIES = 3;
/** 20 planes for a head of 64 and 40 for one of 128: 1.25 bits an element. */
const GROUPS: [dim: number, counts: WidthCounts][] = [
  [64, { count8: 1, count4: 6, count2: 14, count1: 20 }],
  [128, { count8: 2, count4: 12, count2: 28, count1: 40 }],
];
const TOKENS = [8192, 32768];
const SMALL = 2048;
/** Sizes of queries: scores span about 10, and less than 1, once divided by the root of dim. */
const SIZES = [2, 0.1];

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const [dim, counts] of GROUPS) {
    const planes = planeCount(counts);
    for (const tokens of TOKENS) {
      const dense = denseTimes(runtime, tokens, dim, QUERIES);
      for (const size of SIZES) {
        const ours = times(runtime, counts, dim, tokens, size);
        const name = `scorePlanes ${QUERIES} queries, ${tokens} tokens, ${planes} planes, span ${ours.span.toFixed(1)}`;
        rows.push(row("score", name, ours.scores, `scoreRows, dim ${dim}`, dense.score, ours.note));
      }
    }
    const [ours, twin] = [runtime, reference].map((kernels) => times(kernels, counts, dim, SMALL, SIZES[0]));
    const work = `${QUERIES} queries, ${planes} planes`;
    rows.push(
      row("score", `scoreTables ${work}`, ours.tables, "TypeScript twin", twin.tables),
      row("score", `scorePlanes ${work}, ${SMALL} tokens`, ours.scores, "TypeScript twin", twin.scores),
      row("score", `blockMaxima ${SMALL} tokens`, ours.maxima, "TypeScript twin", twin.maxima),
    );
  }
  return rows;
}

function times({ kernels, heap }: Runtime, counts: WidthCounts, dim: number, tokens: number, size: number) {
  const [planes, parts, channels, blocks] = [
    planeCount(counts),
    partCount(counts),
    channelCount(counts),
    blockCount(tokens),
  ];
  return heap.scratch((frame) => {
    const [levelsPtr, latentsPtr] = [4 * PART_LEVELS * parts, 4 * (channels + 1) * QUERIES].map((n) =>
      frame.reserve(n),
    );
    heap.f32(levelsPtr, PART_LEVELS * parts).set(noise(PART_LEVELS * parts));
    // A spectrum that falls as those of keys do.
    const random = noise((channels + 1) * QUERIES, 3);
    const latents = random.map((x, i) => size * Math.sqrt(dim) * x * Math.exp((-6.4 * Math.floor(i / QUERIES)) / dim));
    heap.f32(latentsPtr, random.length).set(latents);
    const groupPtr = frame.reserve(GROUP.bytes);
    const { count8, count4, count2, count1 } = counts;
    heap.u32(groupPtr, GROUP.bytes / 4).set([count8, count4, count2, count1, levelsPtr, 0, QUERIES, 0]);
    const [setPtr, scratchPtr] = [scoreSetBytes(planes, QUERIES), scoreScratchBytes(planes, QUERIES)].map((n) =>
      frame.reserve(n),
    );
    const blockBytes = PLANE_BYTES * planes;
    const [blocksPtr, listPtr, scoresPtr, maximaPtr] = [
      blocks * blockBytes,
      4 * blocks,
      4 * QUERIES * tokens,
      4 * blocks,
    ].map((n) => frame.reserve(n));
    heap.u8(blocksPtr, blocks * blockBytes).set(Uint8Array.from(noise(blocks * blockBytes), (x) => 128 + 128 * x));
    heap.u32(listPtr, blocks).set(Uint32Array.from({ length: blocks }, (_, i) => blocksPtr + i * blockBytes));
    heap.f32(maximaPtr, blocks).fill(-Infinity);
    const step = 0.001 * Math.sqrt(dim);
    const tables = measure(() => kernels.scoreTables(setPtr, latentsPtr, groupPtr, scratchPtr, 1, QUERIES, step));
    const scores = measure(() =>
      kernels.scorePlanes(scoresPtr, listPtr, setPtr, blocks, 0, blocks, 0, blocks * BLOCK_TOKENS),
    );
    const found = heap.f32(scoresPtr, tokens);
    const span = found.reduce((a, b) => Math.max(a, b)) - found.reduce((a, b) => Math.min(a, b));
    const maxima = measure(() => kernels.blockMaxima(maximaPtr, scoresPtr, blocks));
    const [runs, wide] = heap.u32(setPtr + SCORE_SET.runCount, 2);
    const adding = runs ? `${runs} runs, ${wide} planes of two bytes` : "two bytes a plane";
    return {
      tables,
      scores,
      maxima,
      span: span / Math.sqrt(dim),
      note: `${adding}; tables take 1 / ${Math.round(scores / tables)} of it`,
    };
  });
}
