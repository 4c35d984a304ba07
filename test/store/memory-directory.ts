/**
 * A stand-in for the browser's FileSystemDirectoryHandle, as the File System Standard has it where OpfsStore looks:
 * a missing entry is a NotFoundError, an entry of the other kind a TypeMismatchError, a file changes when its writer
 * closes, and a File is a snapshot.
 */
import type { DirectoryHandleLike, FileHandleLike } from "../../src/store/opfs.ts";

const missing = (name: string) => new DOMException(`${name} is not there`, "NotFoundError");
const otherKind = (name: string) => new DOMException(`${name} is of another kind`, "TypeMismatchError");

export class MemoryFile implements FileHandleLike {
  readonly kind = "file";
  readonly name: string;
  content = new Blob([]);
  /** The name of the error that the next close ends with. */
  static failure: string | undefined;

  constructor(name: string) {
    this.name = name;
  }

  async getFile(): Promise<Blob> {
    return this.content;
  }

  async createWritable() {
    const parts: BlobPart[] = [];
    return {
      write: async (data: Uint8Array<ArrayBuffer>) => void parts.push(data.slice()),
      close: async () => {
        if (MemoryFile.failure) throw new DOMException("injected", MemoryFile.failure);
        this.content = new Blob(parts);
      },
      abort: async () => undefined,
    };
  }
}

export class MemoryDirectory implements DirectoryHandleLike {
  readonly kind = "directory";
  readonly name: string;
  readonly entries = new Map<string, MemoryDirectory | MemoryFile>();

  constructor(name: string) {
    this.name = name;
  }

  async getDirectoryHandle(name: string, options?: { create: boolean }): Promise<MemoryDirectory> {
    const entry = this.#entry(name, options, () => new MemoryDirectory(name));
    if (entry.kind !== "directory") throw otherKind(name);
    return entry;
  }

  async getFileHandle(name: string, options?: { create: boolean }): Promise<MemoryFile> {
    const entry = this.#entry(name, options, () => new MemoryFile(name));
    if (entry.kind !== "file") throw otherKind(name);
    return entry;
  }

  async removeEntry(name: string): Promise<void> {
    if (!this.entries.delete(name)) throw missing(name);
  }

  async *values(): AsyncGenerator<MemoryDirectory | MemoryFile> {
    yield* [...this.entries.values()];
  }

  #entry<T extends MemoryDirectory | MemoryFile>(
    name: string,
    options: { create: boolean } | undefined,
    make: () => T,
  ) {
    if (name === "" || name === "." || name === ".." || name.includes("/")) throw new TypeError(`bad name ${name}`);
    const held = this.entries.get(name);
    if (held) return held;
    if (!options?.create) throw missing(name);
    const entry = make();
    this.entries.set(name, entry);
    return entry;
  }
}
