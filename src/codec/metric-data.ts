/** What a cache knows of a layer that a metric can be made of, read and put into linear memory. */
import { expectInteger } from "../errors.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { FisherData } from "./fisher.ts";
import type { KeyMetric } from "./metric.ts";
import type { CodecOptions } from "./options.ts";
import type { CacheSource, QueryData } from "./source.ts";
import { loadTensor, putF32 } from "./tensors.ts";

type MetricData = { fisher: FisherData } | { query: QueryData } | { moments: Float32Array };

/** The model's Fisher information, or else the prompt's queries, or else their moments; nothing where none is wanted. */
export async function metricData(
  source: CacheSource,
  layer: number,
  options: Pick<CodecOptions, "metric" | "attentionWeights" | "schedule">,
): Promise<MetricData | undefined> {
  if (options.schedule !== null) return undefined;
  const fisher = await fisherOf(source, layer, options);
  if (fisher) return { fisher };
  // Queries say how tokens weigh too.
  const query = options.metric || options.attentionWeights ? await source.query?.(layer) : undefined;
  if (query) return { query };
  const moments = options.metric ? await source.queryMoments?.(layer) : undefined;
  return moments && { moments: checkMoments(`layer ${layer} query moments`, moments, source) };
}

/** The model's Fisher information where it is known and wanted: the one metric that values have. */
export async function fisherOf(
  source: CacheSource,
  layer: number,
  options: Pick<CodecOptions, "metric" | "schedule">,
): Promise<FisherData | undefined> {
  if (!source.fisher || !weighsValues(source, options)) return undefined;
  const fisher = await source.fisher(layer);
  checkMoments(`layer ${layer} Fisher information of keys`, fisher.keys, source);
  checkMoments(`layer ${layer} Fisher information of values`, fisher.values, source);
  return fisher;
}

/** True where values share bits between layers by what their errors cost. */
export const weighsValues = (
  { fisher }: CacheSource,
  { metric, schedule }: Pick<CodecOptions, "metric" | "schedule">,
): boolean => fisher !== undefined && metric && schedule === null;

export function putMetric(
  runtime: Runtime,
  frame: Frame,
  layer: number,
  data: MetricData | undefined,
  source: CacheSource,
): KeyMetric | undefined {
  if (!data) return undefined;
  if ("query" in data) return putQueries(runtime, frame, layer, data.query, source);
  if ("fisher" in data) {
    return { fisherPtr: putF32(runtime.heap, frame, data.fisher.keys), tokens: source.tokenCount };
  }
  return { momentsPtr: putF32(runtime.heap, frame, data.moments), nextToken: source.tokenCount };
}

function putQueries(runtime: Runtime, frame: Frame, layer: number, query: QueryData, source: CacheSource): KeyMetric {
  const { kvHeads, headDim } = source.geometry;
  const { queryHeads, count, firstToken } = query;
  const name = `layer ${layer} query`;
  expectInteger(`${name}: count`, count, 1, source.tokenCount);
  expectInteger(`${name}: firstToken`, firstToken, 0, source.tokenCount - count);
  if (!(queryHeads > 0) || queryHeads % kvHeads !== 0) {
    throw new RangeError(`${name}: expected a multiple of ${kvHeads} query heads, got ${queryHeads}`);
  }
  const ptr = loadTensor(runtime, frame, name, query, queryHeads * count * headDim);
  return { ptr, queryHeads, count, firstToken };
}

function checkMoments(name: string, moments: Float32Array, { geometry }: CacheSource): Float32Array {
  const count = geometry.kvHeads * geometry.headDim ** 2;
  if (moments.length !== count) throw new RangeError(`${name}: expected ${count} elements, got ${moments.length}`);
  const bad = moments.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0) throw new RangeError(`${name}: expected finite numbers, got ${moments[bad]} at ${bad}`);
  return moments;
}
