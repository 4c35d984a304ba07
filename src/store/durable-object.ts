/**
 * Storage of a Durable Object. A value lies in pieces within the platform's limit:
 *
 *   h/KEY                  { version, bytes }
 *   p/KEY/VERSION/NNNNNN   pieces, all of `valueBytes` but the last
 *
 * A put writes them in one transaction and drops the pieces before; its memory is the value's length. A range reads the
 * pieces that it touches, so small pieces are what makes many ranges at a time cheap.
 */
import { expectInteger, FormatError } from "../errors.ts";
import {
  type ByteRange,
  type ByteStore,
  checkKey,
  checkPrefix,
  type ListedKey,
  type PutCondition,
  rangeIn,
  type StoredBytes,
  sliceOf,
} from "./byte-store.ts";

/** As much of `DurableObjectTransaction` as is used here. */
export interface DurableObjectTransactionLike {
  get<T>(key: string): Promise<T | undefined>;
  get<T>(keys: string[]): Promise<Map<string, T>>;
  put<T>(key: string, value: T): Promise<void>;
  delete(keys: string[]): Promise<number>;
  list<T>(options: { prefix: string }): Promise<Map<string, T>>;
}
/** As much of `DurableObjectStorage` as is used here. */
export interface DurableObjectStorageLike extends DurableObjectTransactionLike {
  transaction<T>(work: (transaction: DurableObjectTransactionLike) => Promise<T>): Promise<T>;
}

interface Head {
  version: number;
  bytes: number;
  valueBytes: number;
}

/** What objects take whose class is not on SQLite; the others take 2 MB, the key counted. */
const DEFAULT_VALUE_BYTES = 131_072;
const MOST_VALUE_BYTES = 1_900_000;
/** Keys that one call takes. */
const CALL_KEYS = 128;
/** Read by one call: half a megabyte at a time, whatever a piece has. */
const CALL_BYTES = 2 ** 19;

export class DurableObjectStore implements ByteStore {
  readonly conditionalPut = true;
  readonly #storage: DurableObjectStorageLike;
  readonly #valueBytes: number;

  /** `valueBytes`: of a piece. */
  constructor(storage: DurableObjectStorageLike, options: { valueBytes?: number } = {}) {
    this.#storage = storage;
    this.#valueBytes = expectInteger("valueBytes", options.valueBytes ?? DEFAULT_VALUE_BYTES, 1, MOST_VALUE_BYTES);
  }

  async get(key: string, range?: ByteRange): Promise<StoredBytes | undefined> {
    const head = await this.#storage.get<Head>(headKey(checkKey(key)));
    if (!head) return undefined;
    const { start, end } = rangeIn(range, head.bytes);
    const bytes = new Uint8Array(end - start);
    const firstPiece = Math.floor(start / head.valueBytes);
    const keys = pieceKeys(key, head).slice(firstPiece, Math.ceil(end / head.valueBytes));
    const callKeys = Math.min(CALL_KEYS, Math.ceil(CALL_BYTES / head.valueBytes));
    for (let first = 0; first < keys.length; first += callKeys) {
      const names = keys.slice(first, first + callKeys);
      const pieces = await this.#storage.get<Uint8Array>(names);
      // Between head and pieces another put may have come: then the value is read anew.
      if (pieces.size < names.length) return this.#again(key, range, head);
      for (const [i, name] of names.entries()) {
        const at = (firstPiece + first + i) * head.valueBytes;
        const part = pieces.get(name)!.subarray(Math.max(0, start - at), Math.max(0, end - at));
        bytes.set(part, Math.max(0, at - start));
      }
    }
    return { bytes, totalBytes: head.bytes, version: String(head.version) };
  }

  async #again(key: string, range: ByteRange | undefined, before: Head): Promise<StoredBytes | undefined> {
    const now = await this.#storage.get<Head>(headKey(key));
    if (now?.version === before.version) throw new FormatError(`${key}: expected all pieces of the value, got fewer`);
    return this.get(key, range);
  }

  async put(key: string, bytes: Uint8Array, condition?: PutCondition): Promise<boolean> {
    checkKey(key);
    return this.#storage.transaction(async (transaction) => {
      const old = await transaction.get<Head>(headKey(key));
      if (condition && condition.version !== (old ? String(old.version) : null)) return false;
      // Versions never come again, or a reader could mistake a new value for one that was deleted.
      const version = ((await transaction.get<number>(PUTS)) ?? 0) + 1;
      const head: Head = { version, bytes: bytes.length, valueBytes: this.#valueBytes };
      for (const [i, name] of pieceKeys(key, head).entries()) {
        const start = i * this.#valueBytes;
        await transaction.put(name, sliceOf(bytes, { start, end: start + this.#valueBytes }));
      }
      await transaction.put(PUTS, version);
      await transaction.put(headKey(key), head);
      if (old) await deleteAll(transaction, pieceKeys(key, old));
      return true;
    });
  }

  async delete(key: string): Promise<void> {
    checkKey(key);
    await this.#storage.transaction(async (transaction) => {
      const head = await transaction.get<Head>(headKey(key));
      if (head) await deleteAll(transaction, [headKey(key), ...pieceKeys(key, head)]);
    });
  }

  async list(prefix: string): Promise<ListedKey[]> {
    const heads = await this.#storage.list<Head>({ prefix: headKey(checkPrefix(prefix)) });
    return [...heads].map(([name, { bytes }]) => ({ key: name.slice(headKey("").length), bytes }));
  }
}

const PUTS = "puts";
const headKey = (key: string): string => `h/${key}`;

const pieceKeys = (key: string, { version, bytes, valueBytes }: Head): string[] =>
  Array.from({ length: Math.ceil(bytes / valueBytes) }, (_, i) => `p/${key}/${version}/${String(i).padStart(6, "0")}`);

async function deleteAll(transaction: DurableObjectTransactionLike, keys: string[]): Promise<void> {
  for (let i = 0; i < keys.length; i += CALL_KEYS) await transaction.delete(keys.slice(i, i + CALL_KEYS));
}
