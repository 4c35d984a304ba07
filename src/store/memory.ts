/** A store in memory: for tests, and for prefixes that need not outlive the process. */
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

export class MemoryStore implements ByteStore {
  readonly conditionalPut = true;
  readonly #values = new Map<string, { bytes: Uint8Array; version: string }>();
  #puts = 0;

  async get(key: string, range?: ByteRange): Promise<StoredBytes | undefined> {
    const value = this.#values.get(checkKey(key));
    if (!value) return undefined;
    return { bytes: sliceOf(value.bytes, range), totalBytes: value.bytes.length, version: value.version };
  }

  async put(key: string, bytes: Uint8Array, condition?: PutCondition): Promise<boolean> {
    const held = this.#values.get(checkKey(key))?.version ?? null;
    if (condition && condition.version !== held) return false;
    this.#values.set(key, { bytes: sliceOf(bytes, undefined), version: String(++this.#puts) });
    return true;
  }

  async delete(key: string): Promise<void> {
    this.#values.delete(checkKey(key));
  }

  async list(prefix: string): Promise<ListedKey[]> {
    checkPrefix(prefix);
    return [...this.#values].flatMap(([key, { bytes }]) =>
      key.startsWith(prefix) ? [{ key, bytes: bytes.length }] : [],
    );
  }
}
