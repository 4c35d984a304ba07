/**
 * Workers KV. It knows no conditions, and a write may take a minute until all places see it: one writer, readers
 * anywhere. A value is read whole, ranges are cut from it.
 */
import { CapacityError, UnsupportedError } from "../errors.ts";
import {
  type ByteRange,
  type ByteStore,
  checkKey,
  checkPrefix,
  type ListedKey,
  type PutCondition,
  type StoredBytes,
  sliceOf,
} from "./byte-store.ts";

/** As much of a KV namespace's binding as is used here. */
export interface KvNamespaceLike {
  get(key: string, type: "arrayBuffer"): Promise<ArrayBuffer | null>;
  put(key: string, value: Uint8Array, options?: { metadata: { bytes: number } }): Promise<void>;
  delete(key: string): Promise<void>;
  list<T>(options: {
    prefix: string;
    cursor?: string;
  }): Promise<
    { keys: { name: string; metadata?: T }[] } & ({ list_complete: true } | { list_complete: false; cursor: string })
  >;
}

/** Limit of the platform. */
const MOST_VALUE_BYTES = 25 * 2 ** 20;

export class WorkersKvStore implements ByteStore {
  readonly conditionalPut = false;
  readonly #namespace: KvNamespaceLike;
  readonly #base: string;

  /** `base`, "" or ending in a slash, stands in front of every key in the namespace. */
  constructor(namespace: KvNamespaceLike, base = "") {
    this.#namespace = namespace;
    this.#base = checkPrefix(base);
  }

  async get(key: string, range?: ByteRange): Promise<StoredBytes | undefined> {
    const value = await this.#namespace.get(this.#base + checkKey(key), "arrayBuffer");
    if (!value) return undefined;
    return { bytes: sliceOf(new Uint8Array(value), range), totalBytes: value.byteLength, version: undefined };
  }

  async put(key: string, bytes: Uint8Array, condition?: PutCondition): Promise<boolean> {
    checkKey(key);
    if (condition) throw new UnsupportedError("condition: Workers KV has no conditional put");
    if (bytes.length > MOST_VALUE_BYTES) {
      throw new CapacityError(`${key}: expected at most ${MOST_VALUE_BYTES} bytes, got ${bytes.length}`);
    }
    await this.#namespace.put(this.#base + key, bytes, { metadata: { bytes: bytes.length } });
    return true;
  }

  async delete(key: string): Promise<void> {
    await this.#namespace.delete(this.#base + checkKey(key));
  }

  async list(prefix: string): Promise<ListedKey[]> {
    const found: ListedKey[] = [];
    const options: { prefix: string; cursor?: string } = { prefix: this.#base + checkPrefix(prefix) };
    for (;;) {
      const page = await this.#namespace.list<{ bytes?: number }>(options);
      for (const { name, metadata } of page.keys) {
        found.push({ key: name.slice(this.#base.length), bytes: metadata?.bytes });
      }
      if (page.list_complete) return found;
      options.cursor = page.cursor;
    }
  }
}
