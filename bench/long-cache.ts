/**
 * Caches of any length from the real fixture, for timing: its coded tokens, and its f32 rows, repeated. Spectra, codes
 * and the shape of attention are those of a real cache; the text is not.
 */
import { readFile } from "node:fs/promises";
import type { CodedCache, CodedGroup } from "../src/codec/coded.ts";
import { compress } from "../src/codec/compress.ts";
import { rowDim } from "../src/codec/geometry.ts";
import { BLOCK_TOKENS } from "../src/codec/layout.ts";
import type { CodecOptions } from "../src/codec/options.ts";
import { restoreLayer } from "../src/codec/restore.ts";
import type { CacheSource, QueryData, TensorData } from "../src/codec/source.ts";
import { openDump } from "../src/engines/dump.ts";
import type { Runtime } from "../src/runtime/runtime.ts";

export const FIXTURE = "test/fixtures/smollm2-novel.safetensors";
const PERIOD = 1536;
const ENDS = { sinks: 4, recent: 64 };

export interface LongCache {
  coded: CodedCache;
  /** The first period restored: (kvHeads, PERIOD + sinks + recent, headDim) f32. */
  keys: Float32Array;
  values: Float32Array;
  /** (count, queryHeads, headDim) f32 of the continuation. */
  queries: Float32Array[];
  queryHeads: number;
}

/** `layers` equal layers of `tokens` tokens (coded ones a multiple of 32) made of one layer of the fixture. */
export async function longCache(
  runtime: Runtime,
  tokens: number,
  layers: number,
  wide: boolean,
  options: Partial<CodecOptions>,
): Promise<LongCache> {
  const dump = await openDump(await readFile(FIXTURE));
  const source = wide ? widened(dump) : oneLayer(dump);
  const short = await compress(runtime, source, { ...options, ...ENDS });
  const restored = restoreLayer(runtime, short, 0, "f32");
  const query = (await source.query?.(0)) as QueryData;
  const repeats = (tokens - ENDS.sinks - ENDS.recent) / BLOCK_TOKENS;
  const layer = {
    ...short.layers[0],
    keys: short.layers[0].keys.map((group) => repeat(group, repeats)),
    values: short.layers[0].values.map((group) => repeat(group, repeats)),
  };
  const tokenCount = repeats * BLOCK_TOKENS + ENDS.sinks + ENDS.recent;
  const geometry = { ...short.geometry, layerCount: layers };
  const layerNumbers = Array.from({ length: layers }, (_, i) => i);
  const { tokens: _ids, ...rest } = short;
  return {
    coded: { ...rest, geometry, layerNumbers, tokenCount, layers: layerNumbers.map(() => layer) },
    keys: floats(restored.key),
    values: floats(restored.value),
    queries: lastQueries(runtime, query, short.geometry.headDim),
    queryHeads: query.queryHeads,
  };
}

const floats = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);

/** Blocks of a group over and over, whole ones only. */
function repeat(group: CodedGroup, blocks: number): CodedGroup {
  const held = PERIOD / BLOCK_TOKENS;
  const blockBytes = group.planes.length / held;
  const planes = new Uint8Array(blocks * blockBytes);
  for (let i = 0; i < blocks; i++)
    planes.set(group.planes.subarray((i % held) * blockBytes, ((i % held) + 1) * blockBytes), i * blockBytes);
  if (!group.norms) return { ...group, planes };
  const codes = Uint8Array.from({ length: blocks * BLOCK_TOKENS }, (_, i) => group.norms!.codes[i % PERIOD]);
  return { ...group, planes, norms: { ...group.norms, codes } };
}

/** The last layer's first PERIOD + sinks + recent tokens. */
function oneLayer(dump: Awaited<ReturnType<typeof openDump>>): CacheSource {
  const layer = dump.geometry.layerCount - 1;
  const tokenCount = PERIOD + ENDS.sinks + ENDS.recent;
  const { kvHeads, headDim } = dump.geometry;
  const cut = async (tensor: TensorData): Promise<TensorData> => {
    const head = tensor.bytes.length / kvHeads;
    const kept = tokenCount * headDim * 2;
    const bytes = new Uint8Array(kvHeads * kept);
    for (let h = 0; h < kvHeads; h++) bytes.set(tensor.bytes.subarray(h * head, h * head + kept), h * kept);
    return { ...tensor, bytes };
  };
  return {
    geometry: { ...dump.geometry, layerCount: 1 },
    rotary: dump.rotary,
    tokenCount,
    layerNumbers: [0],
    model: dump.model,
    key: async () => cut(await dump.key(layer)),
    value: async () => cut(await dump.value(layer)),
    query: async () => {
      const query = (await dump.query(layer)) as QueryData;
      const count = Math.min(query.count, tokenCount - query.firstToken);
      const bytes = new Uint8Array(query.queryHeads * count * headDim * 2);
      const head = query.bytes.length / query.queryHeads;
      for (let h = 0; h < query.queryHeads; h++) {
        bytes.set(query.bytes.subarray(h * head, h * head + count * headDim * 2), h * count * headDim * 2);
      }
      return { ...query, count, bytes };
    },
  };
}

/** 8 kv heads of 128 and 32 query heads: each head is two real heads side by side, so pairs of both rotate alike. */
function widened(dump: Awaited<ReturnType<typeof openDump>>): CacheSource {
  const one = oneLayer(dump);
  const { kvHeads, headDim } = one.geometry;
  const join = (
    bytes: Uint8Array,
    given: number,
    heads: number,
    pick: (h: number, part: number) => number,
  ): Uint8Array => {
    const from = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
    const rows = from.length / given / headDim;
    const out = new Uint16Array(heads * rows * 2 * headDim);
    const half = headDim / 2;
    for (let h = 0; h < heads; h++) {
      for (let part = 0; part < 2; part++) {
        const source = pick(h, part);
        for (let t = 0; t < rows; t++) {
          const at = (source * rows + t) * headDim;
          const to = (h * rows + t) * 2 * headDim;
          // Half-split: the first halves of both heads, then the second halves.
          out.set(from.subarray(at, at + half), to + part * half);
          out.set(from.subarray(at + half, at + headDim), to + headDim + part * half);
        }
      }
    }
    return new Uint8Array(out.buffer);
  };
  const kvPick = (h: number, part: number): number => (h + part) % kvHeads;
  const frequencies = new Float64Array(headDim);
  for (let i = 0; i < headDim; i++) frequencies[i] = one.rotary.frequencies[i % (headDim / 2)];
  const wide = async (tensor: Promise<TensorData>): Promise<TensorData> => {
    const given = await tensor;
    return { ...given, bytes: join(given.bytes, kvHeads, 8, kvPick) };
  };
  return {
    ...one,
    geometry: { layerCount: 1, kvHeads: 8, headDim: 2 * headDim },
    rotary: { layout: "half-split", frequencies },
    key: () => wide(one.key(0)),
    value: () => wide(one.value(0)),
    query: async () => {
      const query = (await one.query!(0)) as QueryData;
      const pick = (h: number, part: number): number => kvPick(Math.floor(h / 4), part) * 3 + (h % 3);
      return { ...query, queryHeads: 32, bytes: join(query.bytes, query.queryHeads, 32, pick) };
    },
  };
}

/** The last queries, (queryHeads, headDim) each. */
function lastQueries({ kernels, heap }: Runtime, query: QueryData, headDim: number): Float32Array[] {
  const { queryHeads, count } = query;
  const all = heap.scratch((frame) => {
    const total = queryHeads * count * headDim;
    const [bitsPtr, ptr] = [frame.reserve(2 * total), frame.reserve(4 * total)];
    heap.u8(bitsPtr, 2 * total).set(query.bytes);
    kernels.widenF16(ptr, bitsPtr, total);
    return heap.f32(ptr, total).slice();
  });
  return Array.from({ length: Math.min(16, count) }, (_, i) => {
    const row = new Float32Array(queryHeads * headDim);
    for (let h = 0; h < queryHeads; h++) {
      const at = (h * count + count - 1 - i) * headDim;
      row.set(all.subarray(at, at + headDim), h * headDim);
    }
    return row;
  });
}

export const layerElements = (cache: LongCache): number => cache.coded.tokenCount * rowDim(cache.coded.geometry);
export { PERIOD };
