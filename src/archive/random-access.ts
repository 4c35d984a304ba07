/** Bytes read where they are wanted: a file in Node, Deno and Bun, a Blob in browsers, an array anywhere. */
import { fileError } from "./atomic-file.ts";

/** `read` returns fresh bytes, fewer than `length` only where the source ends. */
export interface RandomAccess {
  /** Bytes in all. */
  readonly size: number;
  read(offset: number, length: number): Promise<Uint8Array>;
  close?(): Promise<void>;
}

/** A path or file URL, a Blob (File), bytes, or anything that can be read at an offset. */
export type ByteSource = string | URL | Blob | Uint8Array | RandomAccess;

/** A system call takes less than 2 GiB. */
const MOST_BYTES_A_CALL = 1 << 30;

/** The source opened, and its name for messages. */
export async function openSource(source: ByteSource): Promise<{ access: RandomAccess; name: string }> {
  if (typeof source === "string") return { access: await openFile(source), name: source };
  if (source instanceof URL) {
    const { fileURLToPath } = await import("node:url");
    const path = fileURLToPath(source);
    return { access: await openFile(path), name: path };
  }
  if (source instanceof Uint8Array) return { access: fromBytes(source), name: "bytes" };
  if (typeof Blob !== "undefined" && source instanceof Blob) {
    return { access: fromBlob(source), name: "name" in source ? String(source.name) : "blob" };
  }
  if (typeof (source as RandomAccess)?.read === "function" && Number.isSafeInteger((source as RandomAccess).size)) {
    return { access: source as RandomAccess, name: "source" };
  }
  throw new TypeError(
    `source: expected a path, a file URL, a Blob, a Uint8Array or { size, read }, got ${typeof source}`,
  );
}

const fromBytes = (bytes: Uint8Array): RandomAccess => ({
  size: bytes.length,
  // Not bytes.slice: a Buffer's slice is a view.
  read: async (offset, length) => Uint8Array.from(bytes.subarray(offset, offset + length)),
});

const fromBlob = (blob: Blob): RandomAccess => ({
  size: blob.size,
  read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
});

async function openFile(path: string): Promise<RandomAccess> {
  // Imported here, so that the module loads where there is no node:fs.
  const { open } = await import("node:fs/promises");
  const system = async <T>(call: Promise<T>): Promise<T> => {
    try {
      return await call;
    } catch (cause) {
      throw fileError("read", path, cause);
    }
  };
  const handle = await system(open(path, "r"));
  const stat = await handle.stat();
  if (!stat.isFile()) {
    await handle.close();
    throw new RangeError(`path: expected a file to read, got ${JSON.stringify(path)} (not a regular file)`);
  }
  return {
    size: stat.size,
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      let got = 0;
      while (got < length) {
        const most = Math.min(length - got, MOST_BYTES_A_CALL);
        const { bytesRead } = await system(handle.read(bytes, got, most, offset + got));
        if (bytesRead === 0) break;
        got += bytesRead;
      }
      return got === length ? bytes : bytes.slice(0, got);
    },
    close: () => handle.close(),
  };
}
