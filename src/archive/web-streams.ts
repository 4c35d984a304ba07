/** Archives as Web Streams: a section at a time on the way out, a section at a time on the way in. */
import { joinChunks } from "../codec/chunks.ts";
import type { CodedCache, CodedLayer } from "../codec/coded.ts";
import { FormatError } from "../errors.ts";
import { ARCHIVE_VERSIONS, PREAMBLE, type SectionEntry } from "./format.ts";
import { expectZeros, readHead } from "./header.ts";
import { assembled, OpenArchive, type ReadOptions } from "./reader.ts";
import { chunksOf, type WriteOptions } from "./writer.ts";

/**
 * The file of a cache, made as it is pulled: beside the cache there is one section in memory. The cache must stay as it
 * is until the stream has ended. RangeError, at once, where it is not sound.
 */
export function archiveStream(cache: CodedCache, options: WriteOptions = {}): ReadableStream<Uint8Array<ArrayBuffer>> {
  const chunks = chunksOf(cache, options);
  return new ReadableStream(
    {
      pull(controller) {
        const { value, done } = chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    },
    { highWaterMark: 0 },
  );
}

/**
 * A cache of a stream's bytes. Layers are read as they come: beside the cache there are the sections of one layer in
 * memory (from version 3 on: all that has come, since rests follow). FormatError where the bytes are no archive; the stream is
 * cancelled then, and where `signal` stops it, which it does at once, also while bytes are waited for.
 */
export async function decodeArchiveStream(
  stream: ReadableStream<Uint8Array>,
  { name = "stream", signal, profile }: ReadOptions & { name?: string; signal?: AbortSignal } = {},
): Promise<CodedCache> {
  const source = new ExactReader(stream, name, signal);
  try {
    const cache = await decodeFrom(source, name, profile);
    await source.expectEnd();
    return cache;
  } catch (error) {
    await source.cancel(error);
    throw error;
  } finally {
    source.release();
  }
}

async function decodeFrom(source: ExactReader, name: string, profile: ReadOptions["profile"]): Promise<CodedCache> {
  const preamble = await source.take(PREAMBLE.bytes);
  const view = new DataView(preamble.buffer);
  const header = await source.take(view.getUint32(PREAMBLE.headerBytes, true));
  const start = joinChunks([preamble, header]);
  // The length that the preamble claims is the stream's where bytes neither lack nor are left over.
  const head = readHead(start, name, Number(view.getBigUint64(PREAMBLE.fileBytes, true)));
  const held = new Map<SectionEntry, Uint8Array>();
  const archive = new OpenArchive(head, name, (entry) => held.get(entry) as Uint8Array, profile);
  const layers: CodedLayer[] = [];
  const early = head.version < ARCHIVE_VERSIONS.streams;
  for (const section of head.sections) {
    const at = source.at;
    expectZeros(await source.take(section.offset - at), at, at, [section], name);
    held.set(section, await source.take(section.bytes));
    if (!early || section.kind !== "exact-values") continue;
    layers.push(archive.layer(section.layer as number));
    for (const done of held.keys()) if (done.layer === section.layer) held.delete(done);
  }
  const rotary = archive.rotary();
  const { layerCount } = head.shape.geometry;
  while (layers.length < layerCount) layers.push(archive.layer(layers.length));
  return assembled(archive, rotary, archive.tokens(), layers);
}

/** Takes as many bytes of a stream as are asked for, however they come. */
class ExactReader {
  /** Bytes taken. */
  at = 0;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #name: string;
  readonly #signal: AbortSignal | undefined;
  #left = new Uint8Array(0);

  constructor(stream: ReadableStream<Uint8Array>, name: string, signal: AbortSignal | undefined) {
    this.#reader = stream.getReader();
    this.#name = name;
    this.#signal = signal;
    signal?.addEventListener("abort", this.#stop);
  }

  /** A read that waits ends when its stream is cancelled. */
  readonly #stop = (): void => {
    void this.cancel(this.#signal?.reason);
  };

  /** The signal may live on, and be heard by many. */
  release(): void {
    this.#signal?.removeEventListener("abort", this.#stop);
  }

  /** Memory is taken as bytes come, not as they are claimed. */
  async take(count: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    let got = 0;
    while (got < count) {
      if (this.#left.length === 0) await this.#pull(this.at + count, this.at + got);
      const part = this.#left.subarray(0, count - got);
      this.#left = this.#left.subarray(part.length);
      parts.push(part);
      got += part.length;
    }
    this.at += count;
    return joinChunks(parts);
  }

  async expectEnd(): Promise<void> {
    while (this.#left.length === 0) {
      const { value, done } = await this.#read();
      if (done) return;
      this.#left = new Uint8Array(value);
    }
    throw new FormatError(`${this.#name}: length: expected ${this.at} bytes, got more`, this.at);
  }

  async cancel(reason: unknown): Promise<void> {
    // What went wrong is what the caller hears of, not what the stream says of being cancelled.
    await this.#reader.cancel(reason).catch(() => undefined);
  }

  async #read() {
    this.#signal?.throwIfAborted();
    const result = await this.#reader.read();
    this.#signal?.throwIfAborted();
    return result;
  }

  async #pull(wanted: number, have: number): Promise<void> {
    const { value, done } = await this.#read();
    if (done) throw new FormatError(`${this.#name}: length: expected at least ${wanted} bytes, got ${have}`, have);
    if (!(value instanceof Uint8Array))
      throw new TypeError(`${this.#name}: expected chunks of bytes, got ${typeof value}`);
    this.#left = new Uint8Array(value);
  }
}
