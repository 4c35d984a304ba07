/**
 * Prefixes by their tokens, over any ByteStore. Bytes of a prefix are an ordered list of opaque chunks, each for a range
 * of tokens; equal chunks are held once. Objects are written under new names, then the index (prefix-index.ts) takes
 * the place of the one before: until that moment everything is as it was, and nothing that an index names is ever
 * written to. Writers that meet start again on the newer index.
 */
import { brief, CapacityError, expectInteger, expectNumber, expectOptions } from "../errors.ts";
import { type ByteRange, type ByteStore, rangeIn, Turns } from "./byte-store.ts";
import {
  type Counts,
  decodeIndex,
  dropExpired,
  dropUnnamed,
  emptyIndex,
  encodeIndex,
  evict,
  heldBytes,
  type IndexPrefix,
  isExpired,
  type Labels,
  type PrefixIndex,
  prefixBytes,
  tokenCountOf,
} from "./prefix-index.ts";
import { bestMatch } from "./prefix-match.ts";
import { type NewChunk, piecesOf, Upload } from "./prefix-upload.ts";
import { findPlace, type OpenPrefix, type PrefixInfo, partsOf, streamOf, viewOf } from "./prefix-view.ts";
import { TokenChain } from "./token-chain.ts";
import { addCounts, Uses } from "./uses.ts";

export type { HeldChunk, PrefixChunk } from "./prefix-upload.ts";
export type { OpenPrefix, PrefixInfo } from "./prefix-view.ts";

export interface PrefixStoreOptions {
  /** Most bytes of all prefixes together; what is being written comes on top until it is done. */
  budgetBytes?: number;
  /** A secret from which ids are made; without it they tell nothing about tokens. */
  salt?: string;
  /** Longer chunks are stored in pieces; at most what the store takes as a value. */
  pieceBytes?: number;
  /** How long uses of prefixes are kept in memory before a read writes them down. */
  touchSeconds?: number;
  /** How old an object must be before `sweep` takes it for what a crash left behind; longer than any put takes. */
  graceSeconds?: number;
  /** Milliseconds since 1970. */
  now?: () => number;
  /** What is not written down yet; of this PrefixStore alone unless given. */
  uses?: Uses;
}

export interface NewPrefix {
  /** What its bytes are for: a fingerprint, or any other name. Prefixes of other models never match. */
  model: string;
  tokens: Int32Array;
  /** In order: ranges follow one another from 0 to the last token. A range may be empty, bytes stand for by a digest. */
  chunks: Iterable<NewChunk> | AsyncIterable<NewChunk>;
  /** Unless given, it stays until it is evicted. */
  ttlSeconds?: number;
  pinned?: boolean;
  /** Kept as they are; at most 1,024 characters of JSON. */
  labels?: Labels;
}

export interface PrefixStats extends Counts {
  prefixes: number;
  /** Held, each chunk once. */
  bytes: number;
  /** That prefixes would have without sharing. */
  bytesUnshared: number;
  tokens: number;
  budgetBytes: number;
  /** Objects that are still to be deleted. */
  garbage: number;
}

const INDEX = "index.json";
const OBJECTS = "objects/";
const TRIES = 200;
const MOST_LABEL_CHARACTERS = 1024;

export class PrefixStore {
  readonly budgetBytes: number;
  readonly #store: ByteStore;
  readonly #salt: string;
  readonly #pieceBytes: number;
  readonly #touchMs: number;
  readonly #graceMs: number;
  readonly #now: () => number;
  readonly #turns = new Turns();
  readonly #uses: Uses;
  /** Names in the index's garbage that are gone. */
  #deleted = new Set<string>();

  constructor(store: ByteStore, options: PrefixStoreOptions = {}) {
    expectOptions("options", options, [
      "budgetBytes",
      "salt",
      "pieceBytes",
      "touchSeconds",
      "graceSeconds",
      "now",
      "uses",
    ]);
    this.#store = store;
    this.budgetBytes = expectNumber("budgetBytes", options.budgetBytes ?? 2 ** 50, 0, 2 ** 53);
    this.#salt = options.salt ?? "";
    this.#pieceBytes = expectInteger("pieceBytes", options.pieceBytes ?? 4 * 2 ** 20, 1, 2 ** 31);
    this.#touchMs = 1000 * expectNumber("touchSeconds", options.touchSeconds ?? 60, 0, 2 ** 31);
    this.#graceMs = 1000 * expectNumber("graceSeconds", options.graceSeconds ?? 3600, 0, 2 ** 31);
    this.#now = options.now ?? Date.now;
    this.#uses = options.uses ?? new Uses();
    this.#uses.written ??= this.#now();
  }

  /**
   * Puts a prefix, or puts new bytes in the place of those of the same tokens. Throws RangeError for chunks that do not
   * cover the tokens, MismatchError for digests of chunks that are not held, CapacityError where it does not fit the
   * budget; everything is as before then.
   */
  async put(prefix: NewPrefix, options: { signal?: AbortSignal } = {}): Promise<PrefixInfo> {
    const { model, tokens, pinned = false, ttlSeconds, labels = {} } = prefix;
    if (typeof model !== "string") throw new TypeError(`model: expected a string, got ${brief(model)}`);
    if (!(tokens instanceof Int32Array) || tokens.length === 0) {
      throw new RangeError(`tokens: expected an Int32Array of at least 1 token, got ${brief(tokens)}`);
    }
    if (JSON.stringify(labels).length > MOST_LABEL_CHARACTERS) {
      throw new RangeError(`labels: expected at most ${MOST_LABEL_CHARACTERS} characters of JSON, got more`);
    }
    const ttl = ttlSeconds === undefined ? null : expectNumber("ttlSeconds", ttlSeconds, 0, 2 ** 31);
    const known = (await this.#read()).index;
    const upload = new Upload(this.#store, () => this.#newName(), Array.isArray(prefix.chunks));
    const chain = new TokenChain(this.#salt, model, tokens);
    try {
      await upload.send(piecesOf(prefix.chunks, tokens.length, this.#pieceBytes), chain, known, options.signal);
      return await this.#change(async (index, now) => {
        options.signal?.throwIfAborted();
        const chunks = await upload.enter(index);
        const id = chunks[chunks.length - 1].id;
        const expires = ttl === null ? null : now + 1000 * ttl;
        index.prefixes[id] = { model, chunks, created: now, used: now, expires, pinned, labels };
        dropUnnamed(index);
        evict(index, this.budgetBytes, id);
        return viewOf(index, { prefix: id, count: chunks.length });
      }, upload);
    } catch (error) {
      await upload.abandon();
      throw error;
    }
  }

  /** The stored prefix that shares most tokens with `tokens`, cut where a chunk ends; undefined where none does. */
  async match({ model, tokens }: { model: string; tokens: Int32Array }): Promise<PrefixInfo | undefined> {
    const { index } = await this.#read();
    const best = await bestMatch(index, model, new TokenChain(this.#salt, model, tokens), this.#now());
    if (best) this.#uses.note(best.prefix, this.#now(), { hits: 1, matchedTokens: best.tokens });
    else this.#uses.note(undefined, this.#now(), { misses: 1 });
    await this.#writeUses();
    return best && viewOf(index, best);
  }

  /** What is known of a prefix, by its id or that of a match; undefined where it is gone. */
  async info(id: string): Promise<PrefixInfo | undefined> {
    const { index } = await this.#read();
    const place = findPlace(index, id, this.#now());
    return place && viewOf(index, place);
  }

  /**
   * Bytes of a prefix, chunk after chunk, or of a range of them. Undefined where there is no such prefix. The stream
   * fails with a FormatError where a chunk is damaged, or gone because the prefix was replaced or evicted meanwhile.
   */
  async read(
    id: string,
    range?: ByteRange,
  ): Promise<{ info: PrefixInfo; bytes: ReadableStream<Uint8Array> } | undefined> {
    const open = await this.open(id);
    return open && { info: open.info, bytes: open.read(range) };
  }

  /** A prefix as it is now, for ranges that depend on what it is: `info`, and `read` of these bytes and no others. */
  async open(id: string): Promise<OpenPrefix | undefined> {
    const { index } = await this.#read();
    const place = findPlace(index, id, this.#now());
    if (!place) return undefined;
    const info = await viewOf(index, place);
    this.#uses.note(place.prefix, this.#now(), {});
    await this.#writeUses();
    const chunks = index.prefixes[place.prefix].chunks.slice(0, place.count);
    return { info, read: (range) => streamOf(this.#store, partsOf(index, chunks, rangeIn(range, info.bytes))) };
  }

  /** True where there was such a prefix. Chunks that others share stay. */
  async delete(id: string): Promise<boolean> {
    return this.#change(async (index) => {
      const found = index.prefixes[id] !== undefined;
      delete index.prefixes[id];
      dropUnnamed(index);
      return found;
    });
  }

  /** Pinned prefixes are not evicted; they do expire. True where there is such a prefix. */
  async pin(id: string, pinned = true): Promise<boolean> {
    return this.#change(async (index) => {
      if (index.prefixes[id]) index.prefixes[id].pinned = pinned;
      return index.prefixes[id] !== undefined;
    });
  }

  /** All prefixes, the last used first. */
  async list(): Promise<PrefixInfo[]> {
    const { index } = await this.#read();
    const alive = Object.keys(index.prefixes).filter((id) => !isExpired(index.prefixes[id], this.#now()));
    const whole = (id: string) => ({ prefix: id, count: index.prefixes[id].chunks.length });
    const infos = await Promise.all(alive.map((id) => viewOf(index, whole(id))));
    const usedOf = ({ id, used }: PrefixInfo) => Math.max(used, this.#uses.used.get(id) ?? 0);
    return infos.sort((a, b) => usedOf(b) - usedOf(a));
  }

  async stats(): Promise<PrefixStats> {
    const { index } = await this.#read();
    const alive = Object.values(index.prefixes).filter((prefix) => !isExpired(prefix, this.#now()));
    const sum = (of: (prefix: IndexPrefix) => number) => alive.reduce((total, prefix) => total + of(prefix), 0);
    return {
      prefixes: alive.length,
      bytes: heldBytes(index),
      bytesUnshared: sum((prefix) => prefixBytes(index, prefix)),
      tokens: sum(tokenCountOf),
      budgetBytes: this.budgetBytes,
      garbage: index.garbage.filter((name) => !this.#deleted.has(name)).length,
      ...addCounts(index.counts, this.#uses.counts),
    };
  }

  /**
   * Drops what has expired and deletes objects that no index names and that are older than `graceSeconds`: what crashes
   * left behind. Returns how many objects were deleted. Run it now and then; it lists the whole store.
   */
  async sweep(options: { signal?: AbortSignal } = {}): Promise<number> {
    await this.#change(async () => undefined);
    const listed = await this.#store.list(OBJECTS);
    // Read after listing: an object that was named in between is seen.
    const { index } = await this.#read();
    const named = new Set([...Object.keys(index.objects), ...index.garbage]);
    let deleted = 0;
    for (const { key } of listed) {
      options.signal?.throwIfAborted();
      if (named.has(key) || this.#now() - madeAt(key) < this.#graceMs) continue;
      await this.#store.delete(key);
      deleted++;
    }
    return deleted;
  }

  /** Writes down uses and counts that are in memory only. */
  async flush(): Promise<void> {
    await this.#change(async () => undefined);
  }

  async #read(): Promise<{ index: PrefixIndex; version: string | null }> {
    const held = await this.#store.get(INDEX);
    if (!held) return { index: emptyIndex(), version: null };
    return { index: decodeIndex(held.bytes), version: held.version ?? null };
  }

  /** One change of the index: all of it or nothing. `upload` has objects that must be in the store before. */
  #change<T>(work: (index: PrefixIndex, now: number) => Promise<T>, upload?: Upload): Promise<T> {
    return this.#turns.take(async () => {
      for (let attempt = 0; attempt < TRIES; attempt++) {
        const { index, version } = await this.#read();
        const uses = this.#uses.snapshot();
        this.#enter(uses, index);
        await this.#deleteGarbage(index);
        dropExpired(index, this.#now());
        const result = await work(index, this.#now());
        upload?.beforeCommit();
        const condition = this.#store.conditionalPut ? { version } : undefined;
        if (await this.#store.put(INDEX, encodeIndex(index), condition)) {
          this.#uses.forget(uses, this.#now());
          await this.#deleteGarbage(index);
          return result;
        }
        upload?.afterConflict();
        await new Promise((resolve) => setTimeout(resolve, Math.random() * Math.min(200, 2 ** attempt)));
      }
      throw new CapacityError(`prefix index: expected a turn within ${TRIES} tries, got none: too many writers`);
    });
  }

  /** What reads have noted, into an index that is about to be written. */
  #enter({ used, counts }: ReturnType<Uses["snapshot"]>, index: PrefixIndex): void {
    for (const [id, time] of used) {
      if (index.prefixes[id]) index.prefixes[id].used = Math.max(index.prefixes[id].used, time);
    }
    index.counts = addCounts(index.counts, counts);
  }

  /** A read that cannot write down uses is still a good read; they stay in memory until the next turn. */
  async #writeUses(): Promise<void> {
    if (this.#now() - this.#uses.written! < this.#touchMs) return;
    // At once, or as many as read at this moment would all write the index, one after the other.
    this.#uses.written = this.#now();
    await this.flush().catch(() => undefined);
  }

  /**
   * Of an index that is written: nothing will ever name these objects again. Those that cannot be deleted stay in the
   * garbage; those that can are deleted again, in vain, where another writer does not know of it.
   */
  async #deleteGarbage(index: PrefixIndex): Promise<void> {
    const deleted = index.garbage.map(async (name) => {
      if (!this.#deleted.has(name)) await this.#store.delete(name);
    });
    const done = await Promise.allSettled(deleted);
    this.#deleted = new Set(index.garbage.filter((_, i) => done[i].status === "fulfilled"));
    index.garbage = index.garbage.filter((name) => !this.#deleted.has(name));
  }

  /** The time of its making lies in the name, for the sweep. */
  #newName(): string {
    return `${OBJECTS}${this.#now().toString(36).padStart(9, "0")}-${crypto.randomUUID()}`;
  }
}

const madeAt = (name: string): number => parseInt(name.slice(OBJECTS.length), 36);
