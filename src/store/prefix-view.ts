/** What callers see of an index: prefixes by id, their chunks, and the objects that a range of bytes lies in. */
import { FormatError } from "../errors.ts";
import type { ByteRange, ByteStore } from "./byte-store.ts";
import { type IndexChunk, type Labels, type PrefixIndex, prefixBytes, tokenCountOf } from "./prefix-index.ts";
import { digestOf } from "./token-chain.ts";

export interface PrefixInfo {
  /** Hash of model and tokens; see token-chain.ts. */
  id: string;
  model: string;
  tokenCount: number;
  /** Length, with chunks that others share. */
  bytes: number;
  /** Changes with the bytes; the same bytes under the same id have the same. */
  etag: string;
  /** Milliseconds since 1970, as the two below. */
  created: number;
  used: number;
  expires: number | null;
  pinned: boolean;
  labels: Labels;
  /** The token range, length and digest of each chunk, in order: the first 16 bytes of its SHA-256, in hex. */
  chunks: { tokenFrom: number; tokenTo: number; bytes: number; digest: string }[];
}

export interface OpenPrefix {
  info: PrefixInfo;
  /** Its bytes, or a range of them; fails as `PrefixStore.read` says. */
  read(range?: ByteRange): ReadableStream<Uint8Array>;
}

/** A prefix of the index, cut after `count` chunks. */
export interface Place {
  prefix: string;
  count: number;
}

/** The prefix with this id, or the newest that has it on its way. */
export function findPlace(index: PrefixIndex, id: string, now: number): Place | undefined {
  const isAlive = (name: string) => index.prefixes[name] && (index.prefixes[name].expires ?? Infinity) > now;
  if (isAlive(id)) return { prefix: id, count: index.prefixes[id].chunks.length };
  let best: Place | undefined;
  for (const [prefix, { chunks, created }] of Object.entries(index.prefixes)) {
    const count = chunks.findIndex((chunk) => chunk.id === id) + 1;
    const isNewer = !best || created > index.prefixes[best.prefix].created;
    if (count > 0 && isAlive(prefix) && isNewer) best = { prefix, count };
  }
  return best;
}

export async function viewOf(index: PrefixIndex, { prefix, count }: Place): Promise<PrefixInfo> {
  const { chunks: all, ...others } = index.prefixes[prefix];
  const chunks = all.slice(0, count);
  const cut = { ...others, chunks };
  const digests = chunks.map(({ object }) => index.objects[object].digest).join();
  let at = 0;
  return {
    ...others,
    id: chunks[count - 1].id,
    tokenCount: tokenCountOf(cut),
    bytes: prefixBytes(index, cut),
    etag: await digestOf(new TextEncoder().encode(digests)),
    chunks: chunks.map(({ tokens, object }) => ({
      ...{ tokenFrom: at, tokenTo: (at += tokens) },
      ...index.objects[object],
    })),
  };
}

export interface Part {
  object: string;
  start: number;
  end: number;
  /** Of the whole object. */
  bytes: number;
  digest: string;
}

/** Where bytes `start` to `end` - 1 of some chunks lie. */
export function partsOf(index: PrefixIndex, chunks: IndexChunk[], { start, end }: { start: number; end: number }) {
  const parts: Part[] = [];
  let at = 0;
  for (const { object } of chunks) {
    const { bytes, digest } = index.objects[object];
    const part = { start: Math.max(0, start - at), end: Math.min(bytes, end - at) };
    if (part.end > part.start) parts.push({ object, ...part, bytes, digest });
    at += bytes;
  }
  return parts;
}

/** Bytes of the parts, one after the other; nothing is read before it is wanted. */
export function streamOf(store: ByteStore, parts: Part[]): ReadableStream<Uint8Array> {
  const next = parts.values();
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
    const { value: part, done } = next.next();
    if (done) controller.close();
    else controller.enqueue(await readPart(store, part));
  };
  return new ReadableStream({ pull }, { highWaterMark: 0 });
}

/** Throws a FormatError unless the object is as it was put; of a part its length is all that can be told. */
export async function readPart(store: ByteStore, part: Part): Promise<Uint8Array> {
  const { object, start, end } = part;
  const isWhole = start === 0 && end === part.bytes;
  const held = isWhole ? await store.get(object) : await store.get(object, { start, end });
  if (!held)
    throw new FormatError(`${object}: expected ${part.bytes} bytes, got none: the prefix was replaced or evicted`);
  if (held.bytes.length !== end - start || held.totalBytes !== part.bytes) {
    throw new FormatError(`${object}: expected ${part.bytes} bytes, got ${held.totalBytes}`);
  }
  const digest = isWhole ? await digestOf(held.bytes) : part.digest;
  if (digest !== part.digest) throw new FormatError(`${object}: expected digest ${part.digest}, got ${digest}`);
  return held.bytes;
}
