/**
 * A folder of files, one a value, for Node, Deno and Bun. A put is a temporary file, fsync and a rename; a put with a
 * condition holds a lock meanwhile, which processes share: a folder that only one of them can make.
 */
import type { Stats } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileError, writeFileAtomically } from "../archive/atomic-file.ts";
import { CapacityError } from "../errors.ts";
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

/** A lock this old was left by a process that died: holders write one file. */
const STALE_LOCK_MS = 30_000;
const LOCK_TRIES = 2000;
const LOCK_WAIT_MS = 5;

/** Values end in this, so that a key may also be a folder of others; no part of a key has a capital letter. */
const SUFFIX = ".V";

export class FileStore implements ByteStore {
  readonly conditionalPut = true;
  readonly #folder: string;
  readonly #turns = new Turns();

  /** The folder is made when the first value is put. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  async get(key: string, range?: ByteRange): Promise<StoredBytes | undefined> {
    const path = this.#pathOf(key);
    const handle = await orMissing(path, open(path, "r"));
    if (!handle) return undefined;
    try {
      const held = await handle.stat({ bigint: true });
      const totalBytes = Number(held.size);
      const { start, end } = rangeIn(range, totalBytes);
      return { bytes: await readAt(handle, path, start, end), totalBytes, version: versionOf(held) };
    } finally {
      await handle.close();
    }
  }

  async put(key: string, bytes: Uint8Array, condition?: PutCondition): Promise<boolean> {
    const path = this.#pathOf(key);
    await makeFolder(dirname(path));
    if (!condition) {
      await writeFileAtomically(path, (write) => write(bytes));
      return true;
    }
    return this.#turns.take(() =>
      locked(`${path}.L`, async () => {
        const held = await orMissing(path, stat(path, { bigint: true }));
        if ((held ? versionOf(held) : null) !== condition.version) return false;
        await writeFileAtomically(path, (write) => write(bytes));
        return true;
      }),
    );
  }

  async delete(key: string): Promise<void> {
    const path = this.#pathOf(key);
    await rm(path, { force: true }).catch((cause) => {
      throw fileError("write", path, cause);
    });
  }

  async list(prefix: string): Promise<ListedKey[]> {
    checkPrefix(prefix);
    const found: ListedKey[] = [];
    await this.#walk(prefix.slice(0, prefix.lastIndexOf("/") + 1), prefix, found);
    return found;
  }

  async #walk(parent: string, prefix: string, found: ListedKey[]): Promise<void> {
    const folder = join(this.#folder, parent);
    for (const entry of (await orMissing(folder, readdir(folder, { withFileTypes: true }))) ?? []) {
      const name = `${parent}${entry.name}`;
      const inPrefix = name.startsWith(prefix) || prefix.startsWith(`${name}/`);
      if (entry.isDirectory() && inPrefix && !name.endsWith(".L")) await this.#walk(`${name}/`, prefix, found);
      if (!entry.isFile() || !name.startsWith(prefix) || !name.endsWith(SUFFIX)) continue;
      const held: Stats | undefined = await orMissing(folder, stat(join(folder, entry.name)));
      if (held) found.push({ key: name.slice(0, -SUFFIX.length), bytes: held.size });
    }
  }

  #pathOf(key: string): string {
    return join(this.#folder, `${checkKey(key)}${SUFFIX}`);
  }
}

async function makeFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true }).catch((cause) => {
    throw fileError("write", path, cause);
  });
}

/** Every put makes a file of its own, so number and time tell it apart from all others. */
const versionOf = (held: { ino: bigint; mtimeNs: bigint; size: bigint }): string =>
  `${held.ino}-${held.mtimeNs}-${held.size}`;

async function orMissing<T>(path: string, call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (cause) {
    if (["ENOENT", "ENOTDIR"].includes((cause as { code: string }).code)) return undefined;
    throw fileError("read", path, cause);
  }
}

async function readAt(handle: FileHandle, path: string, start: number, end: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(end - start);
  for (let at = 0; at < bytes.length; ) {
    const { bytesRead } = await handle.read(bytes, at, bytes.length - at, start + at).catch((cause) => {
      throw fileError("read", path, cause);
    });
    if (bytesRead === 0) throw new RangeError(`path: expected ${end} bytes, got ${start + at} (${path} was cut)`);
    at += bytesRead;
  }
  return bytes;
}

async function locked<T>(lock: string, work: () => Promise<T>): Promise<T> {
  await takeLock(lock);
  try {
    return await work();
  } finally {
    await rmdir(lock).catch(() => undefined);
  }
}

async function takeLock(lock: string): Promise<void> {
  for (let i = 0; i < LOCK_TRIES; i++) {
    const taken = await mkdir(lock).then(
      () => true,
      (cause) => {
        if (cause.code === "EEXIST") return false;
        throw fileError("write", lock, cause);
      },
    );
    if (taken) return;
    await removeStale(lock);
    await new Promise((resolve) => setTimeout(resolve, LOCK_WAIT_MS * (0.5 + Math.random())));
  }
  throw new CapacityError(`lock: expected ${lock} to be free within ${LOCK_TRIES} tries, got none`);
}

/** Only one process succeeds in renaming a lock away. */
async function removeStale(lock: string): Promise<void> {
  const held = await stat(lock).catch(() => undefined);
  if (!held || Date.now() - held.mtimeMs < STALE_LOCK_MS) return;
  const away = `${lock}-${crypto.randomUUID()}`;
  await rename(lock, away).then(
    () => rmdir(away),
    () => undefined,
  );
}
