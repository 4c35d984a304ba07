/**
 * The origin private file system of browsers, in a folder of its own. A file is swapped in when its writer closes. Its
 * first 16 bytes are drawn anew with every put: its version, since times of files are too coarse to tell two puts
 * apart. Puts with a condition hold a Web Lock, which all tabs and workers of the origin share.
 */
import { CapacityError, FormatError, UnsupportedError } from "../errors.ts";
import {
  type ByteRange,
  type ByteStore,
  checkKey,
  checkPrefix,
  type ListedKey,
  type PutCondition,
  rangeIn,
  type StoredBytes,
  Turns,
} from "./byte-store.ts";

/** As much of `FileSystemFileHandle` as is used here. */
export interface FileHandleLike {
  readonly kind: "file";
  readonly name: string;
  getFile(): Promise<Blob>;
  createWritable?(): Promise<{
    write(data: Uint8Array<ArrayBuffer>): Promise<void>;
    close(): Promise<void>;
    abort(): Promise<void>;
  }>;
}
/** As much of `FileSystemDirectoryHandle` as is used here. */
export interface DirectoryHandleLike {
  readonly kind: "directory";
  readonly name: string;
  getDirectoryHandle(name: string, options?: { create: boolean }): Promise<DirectoryHandleLike>;
  getFileHandle(name: string, options?: { create: boolean }): Promise<FileHandleLike>;
  removeEntry(name: string): Promise<void>;
  values(): AsyncIterable<DirectoryHandleLike | FileHandleLike>;
}

const VERSION_BYTES = 16;
/** See fs.ts. */
const SUFFIX = ".V";

export class OpfsStore implements ByteStore {
  readonly conditionalPut = true;
  readonly #root: DirectoryHandleLike;
  readonly #turns = new Turns();

  /** As `open` does, on a directory that the caller has: one that the user picked, for instance. */
  constructor(root: DirectoryHandleLike) {
    this.#root = root;
  }

  /** The folder `name` of the origin, made where it is missing. UnsupportedError where there is no such file system. */
  static async open(name = "svdq"): Promise<OpfsStore> {
    checkKey(name);
    const storage = globalThis.navigator?.storage;
    if (!storage?.getDirectory) throw new UnsupportedError("this host has no origin private file system");
    const origin = (await storage.getDirectory()) as unknown as DirectoryHandleLike;
    return new OpfsStore(await origin.getDirectoryHandle(name, { create: true }));
  }

  async get(key: string, range?: ByteRange): Promise<StoredBytes | undefined> {
    const file = await this.#file(key);
    // A file that was made and never written to: its put did not end.
    if (!file || file.size === 0) return undefined;
    if (file.size < VERSION_BYTES) throw new FormatError(`${key}: expected ${VERSION_BYTES} bytes, got ${file.size}`);
    const totalBytes = file.size - VERSION_BYTES;
    const { start, end } = rangeIn(range, totalBytes);
    const [version, bytes] = await Promise.all([
      file.slice(0, VERSION_BYTES).arrayBuffer(),
      file.slice(VERSION_BYTES + start, VERSION_BYTES + end).arrayBuffer(),
    ]);
    return { bytes: new Uint8Array(bytes), totalBytes, version: hexOf(new Uint8Array(version)) };
  }

  put(key: string, bytes: Uint8Array, condition?: PutCondition): Promise<boolean> {
    if (!condition) return this.#write(key, bytes);
    return this.#locked(key, async () => {
      const held = await this.get(key, { start: 0, end: 0 });
      if ((held?.version ?? null) !== condition.version) return false;
      return this.#write(key, bytes);
    });
  }

  async delete(key: string): Promise<void> {
    const { folder, name } = (await this.#place(key)) ?? {};
    await orMissing(folder?.removeEntry(name!));
  }

  async list(prefix: string): Promise<ListedKey[]> {
    checkPrefix(prefix);
    const found: ListedKey[] = [];
    await walk(this.#root, "", prefix, found);
    return found;
  }

  async #write(key: string, bytes: Uint8Array): Promise<boolean> {
    const { folder, name } = (await this.#place(key, true))!;
    const handle = await folder.getFileHandle(name, { create: true });
    if (!handle.createWritable) throw new UnsupportedError("this host's files have no createWritable");
    const writer = await handle.createWritable();
    try {
      await writer.write(crypto.getRandomValues(new Uint8Array(VERSION_BYTES)));
      await writer.write(bytes as Uint8Array<ArrayBuffer>);
      await writer.close();
    } catch (cause) {
      await writer.abort().catch(() => undefined);
      if ((cause as Error).name !== "QuotaExceededError") throw cause;
      throw new CapacityError(`${key}: expected room for ${bytes.length} bytes, got a full quota`, { cause });
    }
    return true;
  }

  async #file(key: string): Promise<Blob | undefined> {
    const { folder, name } = (await this.#place(key)) ?? {};
    const handle = await orMissing(folder?.getFileHandle(name!));
    return orMissing(handle?.getFile());
  }

  async #place(key: string, create = false): Promise<{ folder: DirectoryHandleLike; name: string } | undefined> {
    const parts = checkKey(key).split("/");
    const name = parts.pop()! + SUFFIX;
    let folder: DirectoryHandleLike | undefined = this.#root;
    for (const part of parts) {
      folder = await orMissing(folder.getDirectoryHandle(part, { create }));
      if (!folder) return undefined;
    }
    return { folder, name };
  }

  #locked<T>(key: string, work: () => Promise<T>): Promise<T> {
    const locks = globalThis.navigator?.locks;
    if (!locks) return this.#turns.take(work);
    return locks.request(`svdq ${this.#root.name}/${key}`, work) as Promise<T>;
  }
}

async function walk(folder: DirectoryHandleLike, parent: string, prefix: string, found: ListedKey[]): Promise<void> {
  for await (const entry of folder.values()) {
    const name = `${parent}${entry.name}`;
    if (entry.kind === "directory") {
      if (`${name}/`.startsWith(prefix) || prefix.startsWith(`${name}/`)) await walk(entry, `${name}/`, prefix, found);
    } else if (name.startsWith(prefix) && name.endsWith(SUFFIX)) {
      const file = await orMissing(entry.getFile());
      if (file && file.size >= VERSION_BYTES)
        found.push({ key: name.slice(0, -SUFFIX.length), bytes: file.size - VERSION_BYTES });
    }
  }
}

async function orMissing<T>(call: Promise<T> | undefined): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if ((error as Error).name === "NotFoundError") return undefined;
    throw error;
  }
}

const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
