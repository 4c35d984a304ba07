/**
 * A decoder's tokens appended one by one to a cache of 30 layers of the real fixture's rows, fits included, against a
 * cache that keeps its rows exact. The longest token of a pass is what a user waits for.
 */
import { KvCache } from "../src/cache/kv-cache.ts";
import type { CacheOptions } from "../src/cache/options.ts";
import { openDump } from "../src/engines/dump.ts";
import { loadF32 } from "../src/evaluation/tensors.ts";
import type { Runtime } from "../src/runtime/runtime.ts";
import { type BenchRow, row } from "./harness.ts";
import { FIXTURE } from "./long-cache.ts";

const LAYERS = 30;
const TOKENS = 1600;
/** Passes of which the first has nothing compiled yet. */
const PASSES = 3;

interface Rows {
  keys: Float32Array;
  values: Float32Array;
}

export default async function (runtime: Runtime): Promise<BenchRow[]> {
  const dump = await openDump(FIXTURE);
  const rows: Rows[] = [];
  for (let layer = 0; layer < dump.geometry.layerCount; layer++) {
    const [keys, values] = [await dump.key(layer), await dump.value(layer)];
    rows.push({ keys: loadF32(runtime, keys, dump), values: loadF32(runtime, values, dump) });
  }
  await dump.close();
  const pass = (options: Partial<CacheOptions>): Pass => passOf(runtime, dump, rows, options);
  const exact = best(Array.from({ length: PASSES }, () => pass({ fitTokens: TOKENS })));
  return (["layer", "head"] as const).map((grouping) => {
    const passes = Array.from({ length: PASSES }, () => pass({ grouping }));
    const { mean, longest } = best(passes.slice(1));
    const note = `mean of ${TOKENS} tokens; longest ${longest.toFixed(1)} ms, ${passes[0].longest.toFixed(1)} in the first pass`;
    return row(
      "append",
      `a token, ${LAYERS} layers, ${grouping}, fits included`,
      mean,
      "rows kept exact",
      exact.mean,
      note,
    );
  });
}

/** Milliseconds of a token. */
interface Pass {
  mean: number;
  longest: number;
}

const best = (passes: Pass[]): Pass => ({
  mean: Math.min(...passes.map(({ mean }) => mean)),
  longest: Math.min(...passes.map(({ longest }) => longest)),
});

function passOf(
  runtime: Runtime,
  { geometry, rotary, tokenCount }: Awaited<ReturnType<typeof openDump>>,
  rows: Rows[],
  options: Partial<CacheOptions>,
): Pass {
  const { kvHeads, headDim } = geometry;
  const layout = { tokens: 1, headStride: tokenCount * headDim, tokenStride: headDim };
  const cache = KvCache.create(runtime, { layerCount: LAYERS, kvHeads, headDim }, rotary, options);
  let [sum, longest] = [0, 0];
  for (let token = 0; token < TOKENS; token++) {
    const start = performance.now();
    for (let layer = 0; layer < LAYERS; layer++) {
      const { keys, values } = rows[layer % rows.length];
      cache.append(layer, keys.subarray(token * headDim), values.subarray(token * headDim), layout);
    }
    const took = performance.now() - start;
    sum += took;
    longest = Math.max(longest, took);
  }
  cache.dispose();
  return { mean: sum / TOKENS, longest };
}
