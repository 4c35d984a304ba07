/**
 * Attention in the isolate on a stored layer, on its codes. A layer's live cache is kept for further queries, within
 * an amount of memory; archives are decoded one at a time, because one may take a third of what an isolate has.
 */
import type { Context } from "hono";
import { LRUCache } from "lru-cache";
import { createRuntime, decodeArchive, type KvCache, type SvdqRuntime } from "svdq";
import type { PrefixInfo, PrefixStore } from "svdq/store";
import type { App } from "./env.ts";
import { Refusal } from "./errors.ts";
import { Slots } from "./slots.ts";

const MOST_LIVE_BYTES = 24 * 2 ** 20;
const MOST_RUNTIME_BYTES = 48 * 2 ** 20;

let runtime: SvdqRuntime | undefined;
/** Where archives are read to, one after the other: new memory for each would be garbage of a third of the isolate. */
let room = new Uint8Array(0);
const decoding = new Slots(1);
const live = new LRUCache<string, KvCache>({
  maxSize: MOST_LIVE_BYTES,
  sizeCalculation: (cache) => Math.max(1, cache.stats().bytes.total),
  dispose: (cache) => cache.dispose(),
});

/** Outputs (queryHeads, headDim) f32 of queries of the same shape, after RoPE, on all tokens of one layer. */
export async function attend(
  context: Context<App>,
  store: PrefixStore,
  { id, layer, queries }: { id: string; layer: number; queries: Float32Array },
): Promise<Float32Array> {
  const info = await store.info(id);
  if (!info) throw new Refusal(404, "NOT_FOUND", "prefix: expected one that is stored, got none under this id");
  const name = JSON.stringify([context.get("tenant"), info.id, info.etag, layer]);
  const out = new Float32Array(queries.length);
  const known = live.get(name);
  if (known) {
    known.attend(0, queries, out);
    return out;
  }
  return decoding.run(context, async () => {
    const cache = live.get(name) ?? (await openLayer(store, info, layer));
    try {
      cache.attend(0, queries, out);
    } finally {
      // Too large a layer is not kept, and disposed at once.
      live.set(name, cache);
    }
    return out;
  });
}

async function openLayer(store: PrefixStore, info: PrefixInfo, layer: number): Promise<KvCache> {
  runtime ??= await createRuntime({ maximumBytes: MOST_RUNTIME_BYTES });
  const { geometry, layers, layerNumbers, ...others } = decodeArchive(await readWhole(store, info), "prefix");
  if (!Number.isInteger(layer) || layer < 0 || layer >= geometry.layerCount) {
    throw new RangeError(`layer: expected an integer from 0 to ${geometry.layerCount - 1}, got ${layer}`);
  }
  const one = { layers: [layers[layer]], layerNumbers: [layerNumbers[layer]] };
  return runtime.openCache({ ...others, ...one, geometry: { ...geometry, layerCount: 1 } });
}

async function readWhole(store: PrefixStore, info: PrefixInfo): Promise<Uint8Array> {
  const found = await store.read(info.id);
  if (!found) throw new Refusal(404, "NOT_FOUND", "prefix: expected one that is stored, got none under this id");
  if (room.length < found.info.bytes) room = new Uint8Array(found.info.bytes);
  const bytes = room.subarray(0, found.info.bytes);
  const reader = found.bytes.getReader();
  for (let at = 0; ; ) {
    const { value, done } = await reader.read();
    if (done) return bytes;
    bytes.set(value, at);
    at += value.length;
  }
}
