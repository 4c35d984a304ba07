/** The bytes of a prefix on their way into a store: objects under new names, without effect until an index names them. */
import { brief, CapacityError, MismatchError } from "../errors.ts";
import type { ByteStore } from "./byte-store.ts";
import type { IndexChunk, PrefixIndex } from "./prefix-index.ts";
import { digestOf, type TokenChain } from "./token-chain.ts";

/** Opaque bytes that belong to tokens `tokenFrom` to `tokenTo` - 1, or, where that is none, to the chunk after them. */
export interface PrefixChunk {
  tokenFrom: number;
  tokenTo: number;
  bytes: Uint8Array;
}

/** A chunk whose bytes the store has already, by their digest (`PrefixInfo.chunks`). */
export interface HeldChunk {
  tokenFrom: number;
  tokenTo: number;
  digest: string;
}

export type NewChunk = PrefixChunk | HeldChunk;

const isHeld = (chunk: NewChunk): chunk is HeldChunk => typeof (chunk as HeldChunk).digest === "string";

/** Chunks in pieces of at most `pieceBytes`, the last of each with its tokens; RangeError unless they cover all tokens. */
export async function* piecesOf(
  chunks: Iterable<NewChunk> | AsyncIterable<NewChunk>,
  tokenCount: number,
  pieceBytes: number,
): AsyncGenerator<NewChunk> {
  let at = 0;
  let i = 0;
  for await (const chunk of chunks) {
    const { tokenFrom, tokenTo } = chunk;
    const name = `chunks[${i++}]`;
    if (tokenFrom !== at || !Number.isInteger(tokenTo) || tokenTo < at || tokenTo > tokenCount) {
      const got = `${brief(tokenFrom)} to ${brief(tokenTo)}`;
      throw new RangeError(`${name}: expected tokens from ${at} to at most ${tokenCount}, got ${got}`);
    }
    if (isHeld(chunk)) {
      yield chunk;
      at = tokenTo;
      continue;
    }
    const { bytes } = chunk;
    if (!(bytes instanceof Uint8Array)) throw new TypeError(`${name}: expected a Uint8Array, got ${brief(bytes)}`);
    for (let from = 0; from < bytes.length || from === 0; from += pieceBytes) {
      const to = Math.min(from + pieceBytes, bytes.length);
      const tokens = { tokenFrom: at, tokenTo: to === bytes.length ? tokenTo : at };
      yield { ...tokens, bytes: bytes.subarray(from, to) };
    }
    at = tokenTo;
  }
  if (at !== tokenCount) throw new RangeError(`chunks: expected ${tokenCount} tokens in all, got ${at}`);
}

function refuseUnknown(digest: string): never {
  throw new MismatchError(`chunks: expected digests of what is stored, got ${brief(digest)}: put its bytes`);
}

interface SentChunk extends Omit<IndexChunk, "object"> {
  digest: string;
  bytes: number;
  /** Kept to be sent where what the index had is gone. */
  kept?: Uint8Array;
}

export class Upload {
  readonly #store: ByteStore;
  readonly #newName: () => string;
  readonly #keep: boolean;
  readonly #chunks: SentChunk[] = [];
  /** Digest -> name of what this upload has put. */
  readonly #sent = new Map<string, string>();
  /** True while nobody can say whether the index that names the objects was written. */
  #unsure = false;

  /** `keep`: the caller holds all chunks in memory anyway. */
  constructor(store: ByteStore, newName: () => string, keep: boolean) {
    this.#store = store;
    this.#newName = newName;
    this.#keep = keep;
  }

  /** Puts every piece that `known` does not have; MismatchError for one that it should have. */
  async send(
    pieces: AsyncIterable<NewChunk>,
    chain: TokenChain,
    known: PrefixIndex,
    signal?: AbortSignal,
  ): Promise<void> {
    const held = new Map(Object.values(known.objects).map(({ digest, bytes }) => [digest, bytes]));
    let parent = await chain.root;
    for await (const piece of pieces) {
      signal?.throwIfAborted();
      const { tokenFrom, tokenTo } = piece;
      parent = (await chain.after(parent, tokenFrom, tokenTo))!;
      const [id, tokens] = [parent, tokenTo - tokenFrom];
      if (isHeld(piece)) {
        const { digest } = piece;
        const bytes = held.get(digest) ?? refuseUnknown(digest);
        this.#chunks.push({ id, tokens, digest, bytes });
        continue;
      }
      const { bytes } = piece;
      const digest = await digestOf(bytes);
      const chunk = { id, tokens, digest, bytes: bytes.length };
      this.#chunks.push(this.#keep ? { ...chunk, kept: bytes } : chunk);
      if (!held.has(digest)) await this.#put(digest, bytes);
    }
  }

  /** Chunks of the prefix, whose objects are in `index` afterwards. What was sent for nothing is garbage. */
  async enter(index: PrefixIndex): Promise<IndexChunk[]> {
    const names = new Map(Object.entries(index.objects).map(([name, { digest }]) => [digest, name]));
    for (const [digest, name] of this.#sent) if (names.has(digest)) index.garbage.push(name);
    const chunks: IndexChunk[] = [];
    for (const { id, tokens, digest, bytes, kept } of this.#chunks) {
      if (!names.has(digest) && !this.#sent.has(digest)) {
        if (!kept) throw new CapacityError(`chunk ${id}: expected it to stay, got it evicted meanwhile: put it again`);
        await this.#put(digest, kept);
      }
      const object = names.get(digest) ?? this.#sent.get(digest)!;
      names.set(digest, object);
      index.objects[object] = { bytes, digest };
      chunks.push({ id, tokens, object });
    }
    return chunks;
  }

  beforeCommit(): void {
    this.#unsure = true;
  }

  afterConflict(): void {
    this.#unsure = false;
  }

  /** Deletes what was put, unless an index may name it; what is left is the sweep's. */
  async abandon(): Promise<void> {
    if (this.#unsure) return;
    for (const name of this.#sent.values()) await this.#store.delete(name).catch(() => undefined);
  }

  async #put(digest: string, bytes: Uint8Array): Promise<void> {
    if (this.#sent.has(digest)) return;
    const name = this.#newName();
    // Known before it is there: a put that fails may have been carried out.
    this.#sent.set(digest, name);
    await this.#store.put(name, bytes);
  }
}
