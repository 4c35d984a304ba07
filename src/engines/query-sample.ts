/**
 * Queries of a model from files: samples before RoPE (`layers.N.query` (queryHeads, count, headDim), metadata
 * rope_applied "false" and kv_heads; `positions` is of no matter then), or dumps that have queries (dump.ts).
 */

import type { ByteSource } from "../archive/random-access.ts";
import { momentsInLayout, momentsOf } from "../codec/query-moments.ts";
import type { RotaryLayout } from "../codec/rotary.ts";
import type { ElementType } from "../codec/source.ts";
import { brief, FormatError, UnsupportedError } from "../errors.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Dump } from "./dump.ts";
import { expectShape, type ModelProfile } from "./profile.ts";
import { openSafetensors, type SafetensorsFile } from "./safetensors.ts";

/** Queries of one file as a profile without bases, and how many of each head they are of. */
export interface QuerySample extends ModelProfile {
  count: number;
}

const TYPES: Record<string, ElementType> = { F16: "f16", BF16: "bf16", F32: "f32" };

/** True for a file of queries before RoPE. */
export async function isQuerySample(source: ByteSource): Promise<boolean> {
  const file = await openSafetensors(source);
  await file.close();
  return file.metadata.rope_applied === "false" && ![...file.tensors.keys()].some((name) => name.endsWith(".key"));
}

/** Moments of a sample of queries before RoPE. */
export async function readQuerySample(runtime: Runtime, source: ByteSource): Promise<QuerySample> {
  const file = await openSafetensors(source);
  try {
    return await sampleOf(runtime, file);
  } finally {
    await file.close();
  }
}

async function sampleOf(runtime: Runtime, file: SafetensorsFile): Promise<QuerySample> {
  const fail = (what: string, expected: string, got: unknown): never => {
    throw new FormatError(`${file.name}: ${what}: expected ${expected}, got ${brief(got)}`, 8);
  };
  const kvHeads = Number(file.metadata.kv_heads);
  if (!Number.isInteger(kvHeads) || kvHeads < 1) fail("metadata kv_heads", "an integer from 1", file.metadata.kv_heads);
  const layout = (file.metadata.rope_layout ?? "half-split") as RotaryLayout;
  if (layout !== "half-split" && layout !== "interleaved") {
    fail("metadata rope_layout", '"half-split" or "interleaved"', layout);
  }
  const moments = new Map<number, Float32Array>();
  let [count, headDim] = [0, 0];
  for (const [name, { dtype, shape }] of file.tensors) {
    const number = /^layers\.(0|[1-9]\d{0,4})\.query$/.exec(name)?.[1];
    if (number === undefined) continue;
    const type = TYPES[dtype] ?? fail(`${name}: dtype`, "F16, BF16 or F32", dtype);
    const [queryHeads, rows, dim] = shape;
    if (shape.length !== 3 || queryHeads % kvHeads !== 0 || !(rows > 0) || (headDim && dim !== headDim)) {
      fail(`${name}: shape`, `[a multiple of ${kvHeads}, at least 1, ${headDim || "headDim"}]`, shape);
    }
    [count, headDim] = [rows, dim];
    const query = { type, bytes: await file.read(name), firstToken: 0, count, queryHeads };
    moments.set(Number(number), momentsOf(runtime, query, { kvHeads, headDim }));
  }
  if (moments.size === 0) fail("tensors", "layers.N.query", `${file.tensors.size} others`);
  return { model: file.metadata.model ?? "", kvHeads, headDim, layout, moments, fisher: new Map(), count };
}

/** Moments of all queries of a dump, turned back by their positions; undefined where it has none. */
export async function queriesOfDump(runtime: Runtime, dump: Dump): Promise<QuerySample | undefined> {
  const { geometry, rotary, layerNumbers, model } = dump;
  const moments = new Map<number, Float32Array>();
  let count = 0;
  for (const [layer, number] of layerNumbers.entries()) {
    const query = await dump.queryTensor(layer);
    if (!query) return undefined;
    count = query.count;
    moments.set(number, momentsOf(runtime, query, geometry, rotary));
  }
  const { kvHeads, headDim } = geometry;
  return { model, kvHeads, headDim, layout: rotary.layout, moments, fisher: new Map(), count };
}

/** Samples as one, each by its number of queries. Layers that not all of them have are left out. */
export function mergeSamples(samples: QuerySample[]): ModelProfile {
  if (samples.length === 0) throw new RangeError("samples: expected at least 1, got none");
  const { model, kvHeads, headDim, layout } = samples[0];
  const total = samples.reduce((sum, { count }) => sum + count, 0);
  const moments = new Map<number, Float32Array>();
  for (const [index, other] of samples.entries()) {
    expectShape(`samples[${index}]`, samples[0], "samples[0] has", other);
  }
  for (const number of samples[0].moments.keys()) {
    if (!samples.every((sample) => sample.moments.has(number))) continue;
    const mean = new Float32Array(kvHeads * headDim * headDim);
    for (const sample of samples) {
      const own = sample.moments.get(number) as Float32Array;
      // Files of one model differ in layout by their engine only, which turns all of a head or states so in bases.
      const square = momentsInLayout(own, sample, headDim / 2, sample.layout, layout);
      for (let i = 0; i < mean.length; i++) mean[i] += (square[i] * sample.count) / total;
    }
    moments.set(number, mean);
  }
  if (moments.size === 0) throw new UnsupportedError("samples: expected a layer that all of them have, got none");
  return { model, kvHeads, headDim, layout, moments, fisher: new Map() };
}
