/**
 * Attention in the isolate on a stored layer, on its codes. A layer's live cache is kept for further queries, within
 * an amount of memory; archives are decoded one at a time, because one may take a third of what an isolate has.
 */
import type { Context } from "hono";
import { LRUCache } from "lru-cache";
import { type CodedCache, createRuntime, joinTokenChunks, type KvCache, openArchive, type SvdqRuntime } from "svdq";
import type { OpenPrefix, PrefixStore } from "svdq/store";
import type { App } from "./env.ts";
import { Refusal } from "./errors.ts";
import { Slots } from "./slots.ts";

const MOST_LIVE_BYTES = 24 * 2 ** 20;
const MOST_RUNTIME_BYTES = 48 * 2 ** 20;

let runtime: SvdqRuntime | undefined;
/** How chunks of tokens begin; docs/format.md. */
const CHUNKS = "SVDC";
/** Where chunks are read to, one after the other: new memory for each would be garbage of a third of the isolate. */
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
  const prefix = await store.open(id);
  if (!prefix) throw new Refusal(404, "NOT_FOUND", "prefix: expected one that is stored, got none under this id");
  const name = JSON.stringify([context.get("tenant"), prefix.info.id, prefix.info.etag, layer]);
  const out = new Float32Array(queries.length);
  const known = live.get(name);
  if (known) {
    known.attend(0, queries, out);
    return out;
  }
  return decoding.run(context, async () => {
    const cache = live.get(name) ?? (await openLayer(prefix, layer));
    try {
      cache.attend(0, queries, out);
    } finally {
      // Too large a layer is not kept, and disposed at once.
      live.set(name, cache);
    }
    return out;
  });
}

async function openLayer(prefix: OpenPrefix, layer: number): Promise<KvCache> {
  runtime ??= await createRuntime({ maximumBytes: MOST_RUNTIME_BYTES });
  return runtime.openCache(await layerOf(prefix, layer));
}

/** An archive gives a layer by ranges; chunks of tokens, each of which has some of it, are read one after the other. */
async function layerOf(prefix: OpenPrefix, layer: number): Promise<CodedCache> {
  const size = prefix.info.bytes;
  const read = async (start: number, length: number) =>
    new Uint8Array(await new Response(prefix.read({ start, end: start + length })).arrayBuffer());
  const magic = new TextDecoder().decode(await read(0, CHUNKS.length));
  if (magic !== CHUNKS) return openArchive({ size, read }, { layers: [layer] });
  return joinTokenChunks(await readWhole(prefix), "prefix", { layers: [layer] });
}

async function readWhole({ info, read }: OpenPrefix): Promise<Uint8Array> {
  if (room.length < info.bytes) room = new Uint8Array(info.bytes);
  const bytes = room.subarray(0, info.bytes);
  const reader = read().getReader();
  for (let at = 0; ; ) {
    const { value, done } = await reader.read();
    if (done) return bytes;
    bytes.set(value, at);
    at += value.length;
  }
}
