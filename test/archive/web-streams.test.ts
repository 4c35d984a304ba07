/** Archives in and out as Web Streams, however the bytes are cut. */
import { getEventListeners } from "node:events";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/reader.ts";
import { archiveStream, decodeArchiveStream } from "../../src/archive/web-streams.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { FormatError } from "../../src/errors.ts";
import { failureOf } from "../support/failure.ts";

const NAMES = ["v1-metric", "v1-paper", "v2-segments", "v3-streams", "v3-pair-spans"];
const bytesOf = (name: string): Uint8Array => new Uint8Array(readFileSync(`test/golden/${name}.svdq`));

/** Says whether it was cancelled, and how many chunks were pulled. */
function streamOf(bytes: Uint8Array, size: number) {
  const seen = { pulled: 0, cancelled: undefined as unknown };
  const stream = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const at = size * seen.pulled++;
        if (at >= bytes.length) controller.close();
        else controller.enqueue(bytes.slice(at, at + size));
      },
      cancel(reason) {
        seen.cancelled = reason;
      },
    },
    { highWaterMark: 0 },
  );
  return { stream, seen };
}

describe.each(NAMES)("%s", (name) => {
  const bytes = bytesOf(name);

  it("is the same file as a stream", async () => {
    const cache = decodeArchive(bytes);
    const got: Uint8Array[] = [];
    for await (const chunk of archiveStream(cache) as unknown as AsyncIterable<Uint8Array>) got.push(chunk);
    expect(joinChunks(got)).toEqual(bytes);
    expect(got.length).toBe(encodeArchive(cache).length);
  });

  it.each([1, 7, 1000, 1 << 20])("is read from pieces of %i bytes", async (size) => {
    if (size === 1 && bytes.length > 12000) return;
    expect(await decodeArchiveStream(streamOf(bytes, size).stream)).toEqual(decodeArchive(bytes));
  });

  it("is refused cut, longer, or damaged, and the stream is cancelled", async () => {
    for (const end of [0, 10, 31, 200, bytes.length - 1]) {
      const { stream, seen } = streamOf(bytes.subarray(0, end), 512);
      const error = await failureOf(() => decodeArchiveStream(stream, { name: "x" }));
      expect(error, `${end} bytes`).toBeInstanceOf(FormatError);
      expect(error.message).toMatch(/^x: /);
      expect(seen.pulled).toBeLessThanOrEqual(Math.ceil(bytes.length / 512) + 1);
    }
    const longer = Uint8Array.of(...bytes, 0);
    expect((await failureOf(() => decodeArchiveStream(streamOf(longer, 512).stream))).message).toMatch(/got more/);
    for (let at = 5; at < bytes.length; at += 397) {
      const damaged = bytes.slice();
      damaged[at] ^= 16;
      const { stream, seen } = streamOf(damaged, 512);
      const error = await failureOf(() => decodeArchiveStream(stream));
      expect(error, `byte ${at}`).toBeInstanceOf(FormatError);
      // Cancelled where it had not ended.
      expect(seen.cancelled === undefined || seen.cancelled === error).toBe(true);
    }
  });
});

describe("streams", () => {
  const bytes = bytesOf("v2-segments");

  it("are made as they are pulled", async () => {
    const reader = archiveStream(decodeArchive(bytes)).getReader();
    const { value } = await reader.read();
    expect(value!.length).toBeLessThan(bytes.length / 4);
    await reader.cancel();
  });

  it("refuse an unsound cache at once", () => {
    expect(() => archiveStream({ ...decodeArchive(bytes), sinks: -1 })).toThrow(/sinks: expected/);
  });

  it("stop by a signal, the stream cancelled", async () => {
    const { stream, seen } = streamOf(bytes, 64);
    const stop = new AbortController();
    const reason = new Error("enough");
    setTimeout(() => stop.abort(reason));
    const slow = stream.pipeThrough(
      new TransformStream({
        transform: (chunk, out) => new Promise<void>((go) => setTimeout(go, 1)).then(() => out.enqueue(chunk)),
      }),
    );
    expect(await failureOf(() => decodeArchiveStream(slow, { signal: stop.signal }))).toBe(reason);
    expect(seen.pulled).toBeLessThan(bytes.length / 64);
  });

  it.each([0, 64])("stop by a signal at once where no more bytes come: after %i", async (count) => {
    let cancelled: unknown;
    const silent = new ReadableStream<Uint8Array>({
      start: (out) => (count > 0 ? out.enqueue(bytes.slice(0, count)) : undefined),
      // Cancelling never ends either.
      cancel: (reason) => {
        cancelled = reason;
        return new Promise(() => {});
      },
    });
    const stop = new AbortController();
    const reason = new Error("enough");
    const decoded = failureOf(() => decodeArchiveStream(silent, { signal: stop.signal }));
    setTimeout(() => stop.abort(reason), 5);
    expect(await decoded).toBe(reason);
    expect(cancelled).toBe(reason);
  });

  it("leave a signal as it was", async () => {
    const { signal } = new AbortController();
    await decodeArchiveStream(streamOf(bytes, 64).stream, { signal });
    await failureOf(() => decodeArchiveStream(streamOf(bytes.slice(0, 100), 64).stream, { signal }));
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  it("refuse chunks that are no bytes", async () => {
    const stream = new ReadableStream({ start: (out) => out.enqueue("SVDQ") });
    expect(await failureOf(() => decodeArchiveStream(stream))).toBeInstanceOf(TypeError);
  });
});
