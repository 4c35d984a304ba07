/** Writing a file in one step, and the errors of the file system in words. Node, Deno and Bun only. */
import { CapacityError } from "../errors.ts";

/** The part of node:fs/promises FileHandle that is used. */
export interface WritableHandle {
  write(chunk: Uint8Array, offset: number, length: number): Promise<{ bytesWritten: number }>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface AtomicFileOptions {
  /** Stops before the next chunk, with the signal's reason. */
  signal?: AbortSignal;
  /** Opens the temporary file; for tests. */
  open?: (path: string, flags: string) => Promise<WritableHandle>;
}

/** A system call takes less than 2 GiB. */
const MOST_BYTES_A_CALL = 1 << 30;

/** No more room: nothing that the caller said is wrong. */
const FULL = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/**
 * What a failed system call means to a caller: a CapacityError where the disk is full, else a RangeError that names
 * the path; the system's error is the cause. Errors without a system code come back as they are.
 */
export function fileError(action: "read" | "write", path: string, cause: unknown): unknown {
  const { code, message } = cause as { code?: unknown; message?: unknown };
  if (!(cause instanceof Error) || typeof code !== "string" || !/^E[A-Z0-9_]+$/.test(code)) return cause;
  const got = `${JSON.stringify(path)} (${String(message)})`;
  if (FULL.has(code)) return new CapacityError(`path: expected room for the file, got ${got}`, { cause });
  return new RangeError(`path: expected a file to ${action}, got ${got}`, { cause });
}

/**
 * Writes `path` through a temporary file in the same directory: chunks, fsync, rename. After any failure, thrown by
 * `write` or by the system, the old file is as it was and the temporary file is gone; a process killed half-way leaves
 * the old file and a `.name.….tmp` beside it.
 */
export async function writeFileAtomically(
  path: string,
  write: (chunk: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
  options: AtomicFileOptions = {},
): Promise<void> {
  const fs = await import("node:fs/promises");
  const { basename, dirname, join } = await import("node:path");
  const { signal, open = fs.open as NonNullable<AtomicFileOptions["open"]> } = options;
  signal?.throwIfAborted();
  // A link stays a link: what it points at is replaced.
  const target = await fs.realpath(path).catch(() => path);
  const unique = crypto.randomUUID().slice(0, 8);
  const temporary = join(dirname(target), `.${basename(target)}.${unique}.tmp`);
  const system = async <T>(call: Promise<T>): Promise<T> => {
    try {
      return await call;
    } catch (cause) {
      throw fileError("write", path, cause);
    }
  };
  const handle = await system(open(temporary, "wx"));
  try {
    await write(async (bytes) => {
      signal?.throwIfAborted();
      for (let at = 0; at < bytes.length; ) {
        const length = Math.min(bytes.length - at, MOST_BYTES_A_CALL);
        at += (await system(handle.write(bytes, at, length))).bytesWritten;
      }
    });
    signal?.throwIfAborted();
    await system(handle.sync());
    await system(handle.close());
    const old = await fs.stat(target).catch(() => undefined);
    if (old) await system(fs.chmod(temporary, old.mode & 0o7777));
    await system(fs.rename(temporary, target));
  } catch (error) {
    // Closing twice is harmless, and what it says then matters less than the first error.
    await handle.close().catch(() => undefined);
    await fs.rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(target));
}

/** Makes the rename last through a power cut where directories can be synced; Windows cannot, and needs none. */
async function syncDirectory(directory: string): Promise<void> {
  const { open } = await import("node:fs/promises");
  const handle = await open(directory, "r").catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
