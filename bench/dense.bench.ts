/** Attention on f32 rows against numpy's f32 products, and the twin: keys read once for three queries that share them. */
import type { Runtime } from "../src/runtime/runtime.ts";
import { noise } from "../test/support/noise.ts";
import { type BenchRow, measure, row } from "./harness.ts";
import { numpyTime } from "./numpy.ts";

const QUERIES = 3;
const SHAPES = [
  [8192, 64],
  [32768, 64],
  [8192, 128],
  [32768, 128],
];
const SMALL = [2048, 64];

export default async function (runtime: Runtime, reference: Runtime): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const [tokens, dim] of SHAPES) {
    const ours = denseTimes(runtime, tokens, dim);
    const work = `${QUERIES} queries, ${tokens} x ${dim}`;
    const python = (product: string): string =>
      `x = np.ones((${tokens}, ${dim}), np.float32); q = np.ones((${QUERIES}, ${dim}), np.float32); w = np.ones((${QUERIES}, ${tokens}), np.float32)\nprint(best(lambda: ${product}, 60))`;
    for (const [name, time, product] of [
      ["scoreRows", ours.score, "q @ x.T"],
      ["mixRows", ours.mix, "w @ x"],
    ] as const) {
      const numpy = numpyTime(python(product));
      if (numpy) rows.push(row("dense", `${name} ${work}`, time, `${numpy.peer}, float32`, numpy.milliseconds));
    }
  }
  const [tokens, dim] = SMALL;
  const [ours, twin] = [denseTimes(runtime, tokens, dim), denseTimes(reference, tokens, dim)];
  const work = `${QUERIES} queries, ${tokens} x ${dim}`;
  rows.push(
    row("dense", `scoreRows ${work}`, ours.score, "TypeScript twin", twin.score),
    row("dense", `mixRows ${work}`, ours.mix, "TypeScript twin", twin.mix),
  );
  return rows;
}

/** Milliseconds of both kernels on noise. */
export function denseTimes(
  { kernels, heap }: Runtime,
  tokens: number,
  dim: number,
  queries = QUERIES,
): { score: number; mix: number } {
  return heap.scratch((frame) => {
    const [rowsPtr, queriesPtr, scoresPtr] = [tokens * dim, queries * dim, queries * tokens].map((n) =>
      frame.reserve(4 * n),
    );
    heap.f32(rowsPtr, tokens * dim).set(noise(tokens * dim));
    heap.f32(queriesPtr, queries * dim).set(noise(queries * dim, 2));
    const score = measure(() => kernels.scoreRows(scoresPtr, rowsPtr, queriesPtr, tokens, dim, queries, dim, tokens));
    heap.f32(scoresPtr, queries * tokens).fill(1 / tokens);
    const mix = measure(() => kernels.mixRows(queriesPtr, rowsPtr, scoresPtr, tokens, dim, queries, dim, tokens));
    return { score, mix };
  });
}
