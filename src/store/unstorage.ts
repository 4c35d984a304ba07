/**
 * Any driver of unstorage (Redis, S3, Azure, file systems and more), through `createStorage({ driver })`. It knows no
 * conditions, so one process at a time may write; ranges are cut from whole values. A put is as atomic as the driver's:
 * those of servers are, the one named `fs` is not (take `FileStore`).
 */
import { brief, FormatError, UnsupportedError } from "../errors.ts";
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

/** As much of unstorage's `Storage` as is used here. */
export interface UnstorageLike {
  getItemRaw(key: string, options?: object): Promise<unknown>;
  setItemRaw(key: string, value: Uint8Array): Promise<void>;
  removeItem(key: string): Promise<void>;
  getKeys(base?: string): Promise<string[]>;
}

/** Added to each name: a file system's driver could not hold a file and a folder of one name. */
const SUFFIX = ".bin";

export class UnstorageStore implements ByteStore {
  readonly conditionalPut = false;
  readonly #storage: UnstorageLike;

  constructor(storage: UnstorageLike) {
    this.#storage = storage;
  }

  async get(key: string, range?: ByteRange): Promise<StoredBytes | undefined> {
    // "bytes" is for the driver of R2, which gives a stream otherwise.
    const value = await this.#storage.getItemRaw(nameOf(checkKey(key)), { type: "bytes" });
    if (value === null || value === undefined) return undefined;
    const bytes = await bytesOf(key, value);
    return { bytes: sliceOf(bytes, range), totalBytes: bytes.length, version: undefined };
  }

  async put(key: string, bytes: Uint8Array, condition?: PutCondition): Promise<boolean> {
    checkKey(key);
    if (condition) throw new UnsupportedError("condition: unstorage has no conditional put");
    // Drivers in memory keep what they are given.
    await this.#storage.setItemRaw(nameOf(key), sliceOf(bytes, undefined));
    return true;
  }

  async delete(key: string): Promise<void> {
    await this.#storage.removeItem(nameOf(checkKey(key)));
  }

  async list(prefix: string): Promise<ListedKey[]> {
    checkPrefix(prefix);
    const folder = prefix.slice(0, prefix.lastIndexOf("/") + 1);
    const names = await this.#storage.getKeys(folder.replaceAll("/", ":"));
    const keys = names.map((name) => name.slice(0, -SUFFIX.length).replaceAll(":", "/"));
    return keys.flatMap((key) => (key.startsWith(prefix) ? [{ key, bytes: undefined }] : []));
  }
}

const nameOf = (key: string): string => `${key.replaceAll("/", ":")}${SUFFIX}`;

/** Drivers give what their platform has. */
async function bytesOf(key: string, value: unknown): Promise<Uint8Array> {
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (value instanceof Blob) return new Uint8Array(await value.arrayBuffer());
  throw new FormatError(`${key}: expected bytes from the driver, got ${brief(value)}`);
}
