/** Archive version 3: damage, what its parts must be, and reading no more than is wanted. */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import type { RandomAccess } from "../../src/archive/random-access.ts";
import { decodeArchive, openArchive } from "../../src/archive/reader.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import { FormatError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { ArchiveParts, refusalOf, refuseEveryFlip } from "../support/archive-parts.ts";
import { failureOf } from "../support/failure.ts";
import { openFixture } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, relativeError, TinyCache } from "../support/tiny-cache.ts";

let runtime: Runtime;
let cache: CodedCache;
let archive: Uint8Array;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({});
  const source = new TinyCache({ layers: 2, tokens: 120, noise: 0.3, queries: 8 });
  cache = await compress(runtime, source, { entropy: true, sinks: 2, recent: 3 });
  archive = joinChunks(encodeArchive(cache));
});

describe("an archive with streams", () => {
  it("is of version 3 and gives the cache back", () => {
    expect(archive[8]).toBe(3);
    expect(decodeArchive(archive)).toEqual(cache);
  });

  it("does not survive a flip of any byte", () => {
    refuseEveryFlip(archive);
  });

  it("is refused where a part is cut, longer, or missing", () => {
    const edited = (kind: "keys" | "keys-rest", change: (bytes: Uint8Array) => Uint8Array): string =>
      refusalOf(new ArchiveParts(archive).edit(kind, 0, change).bytes()).message;
    expect(edited("keys", (bytes) => bytes.subarray(0, -1))).toMatch(
      /section keys of layer 0: group 0: stream: expected/,
    );
    expect(edited("keys-rest", (bytes) => bytes.subarray(0, -1))).toMatch(
      /section keys-rest of layer 0: group 0: stream/,
    );
    expect(edited("keys-rest", (bytes) => Uint8Array.of(...bytes, 0))).toMatch(
      /expected its end here, got 1 more bytes/,
    );
    expect(edited("keys-rest", () => new Uint8Array(0))).toMatch(/group 0: channels: expected 2 bytes, got 0/);
    const parts = new ArchiveParts(archive);
    parts.header.sections.pop();
    expect(refusalOf(parts.withHeader(parts.header)).message).toMatch(/sections: expected \d+ sections/);
  });

  it("is refused without any stream, and in an older version", () => {
    const planes = new ArchiveParts(new Uint8Array(readFileSync("test/golden/v2-segments.svdq")));
    planes.version = 3;
    const rest = [0, 1].flatMap((layer) => ["keys-rest", "values-rest"].map((kind) => ({ kind, layer })));
    planes.header.sections.push(...(rest as typeof planes.header.sections));
    planes.sections.push(...rest.map(() => new Uint8Array(0)));
    expect(refusalOf(planes.bytes()).message).toMatch(/expected streams or spans by pair in version 3, got neither/);
    const old = new ArchiveParts(archive);
    old.version = 1;
    old.header.sections.splice(-4);
    old.sections.splice(-4);
    expect(refusalOf(old.bytes()).message).toMatch(/flags: expected 0 to 3, got/);
  });

  it("is not written with planes beside a stream", async () => {
    const [layer] = cache.layers;
    const keys = [{ ...layer.keys[0], planes: new Uint8Array(16) }];
    const error = await failureOf(() => encodeArchive({ ...cache, layers: [{ ...layer, keys }, cache.layers[1]] }));
    expect((error as Error).message).toMatch(/planes: expected none beside a stream/);
  });
});

/** Counts what is read. */
function counted(bytes: Uint8Array): RandomAccess & { bytesRead: number } {
  return {
    size: bytes.length,
    bytesRead: 0,
    async read(offset, length) {
      const part = bytes.slice(offset, offset + length);
      this.bytesRead += part.length;
      return part;
    },
  };
}

describe("openArchive", () => {
  it("reads a whole archive of every version", async () => {
    for (const name of ["v1-metric", "v2-segments", "v3-streams"]) {
      const bytes = new Uint8Array(readFileSync(`test/golden/${name}.svdq`));
      expect(await openArchive(bytes)).toEqual(decodeArchive(bytes));
      expect(await openArchive(`test/golden/${name}.svdq`)).toEqual(decodeArchive(bytes));
      expect(await openArchive(new Blob([bytes]))).toEqual(decodeArchive(bytes));
    }
  });

  it("reads part of a real cache, which is coarser and stays usable", async () => {
    const dump = await openFixture();
    const coded = await compress(runtime, dump, { entropy: true, keyBits: 1.25, valueBits: 1.75 });
    const bytes = joinChunks(encodeArchive(coded));
    const errorOf = async (part: CodedCache): Promise<number> => {
      let error = 0;
      for (let layer = 0; layer < 2; layer++) {
        const { key } = restoreLayer(runtime, part, layer, "f32");
        error += relativeError(new Float32Array(key.buffer), elementsOf(await dump.key(layer))) / 2;
      }
      return error;
    };
    const exact = await errorOf(decodeArchive(bytes));
    const errors: number[] = [];
    for (const maxBytes of [1, 0.8 * bytes.length, bytes.length]) {
      const source = counted(bytes);
      const part = await openArchive(source, { maxBytes: Math.ceil(maxBytes) });
      if (maxBytes > 1) expect(source.bytesRead).toBeLessThanOrEqual(maxBytes);
      else expect(source.bytesRead).toBeLessThan(0.9 * bytes.length);
      expect(part.tokenCount).toBe(coded.tokenCount);
      // What was opened in part is a cache like others: it can be written.
      expect(decodeArchive(joinChunks(encodeArchive(part)))).toEqual(part);
      errors.push(await errorOf(part));
    }
    expect(errors[0]).toBeGreaterThan(errors[1]);
    expect(errors[1]).toBeGreaterThan(errors[2]);
    expect(errors[2]).toBe(exact);
    expect(errors[0]).toBeLessThan(0.2);
  });

  it("reads some layers alone, and looks at no byte of the others", async () => {
    for (const name of ["v1-metric", "v2-segments", "v3-streams"]) {
      const bytes = new Uint8Array(readFileSync(`test/golden/${name}.svdq`));
      const whole = decodeArchive(bytes);
      for (const layer of whole.layers.keys()) {
        const others = new ArchiveParts(bytes).header.sections.filter((one) => (one.layer ?? layer) !== layer);
        const damaged = Uint8Array.from(bytes);
        const first = 16 * Math.ceil((32 + new DataView(bytes.buffer).getUint32(12, true)) / 16);
        for (const { offset, bytes: length } of others) damaged.fill(0xa5, first + offset, first + offset + length);
        const source = counted(damaged);
        const part = await openArchive(source, { layers: [layer] });
        const geometry = { ...whole.geometry, layerCount: 1 };
        const one = { layers: [whole.layers[layer]], layerNumbers: [whole.layerNumbers[layer]] };
        expect(part).toEqual({ ...whole, ...one, geometry });
        expect(decodeArchive(joinChunks(encodeArchive(part)))).toEqual(part);
      }
      const all = Array.from(whole.layers.keys());
      expect(await openArchive(bytes, { layers: all })).toEqual(whole);
      for (const layers of [[], [whole.layers.length], [-1], [0.5], [0, 0], "0"]) {
        expect(await failureOf(() => openArchive(bytes, { layers: layers as never }))).toBeInstanceOf(RangeError);
      }
    }
  });

  it("reads few bytes of a large archive for one layer", async () => {
    const coded = await compress(runtime, new TinyCache({ layers: 4, kvHeads: 2, headDim: 64, tokens: 4000 }));
    const bytes = joinChunks(encodeArchive(coded));
    const source = counted(bytes);
    await openArchive(source, { layers: [3] });
    expect(source.bytesRead).toBeLessThan(bytes.length / 4 + 2 ** 16 + 4 * 4000);
    const cut = counted(bytes.subarray(0, bytes.length - 1));
    const lying = { ...cut, read: cut.read, size: bytes.length };
    expect(await failureOf(() => openArchive(lying, { layers: [3] }))).toBeInstanceOf(FormatError);
  });

  it("refuses a source that is cut, that lies about its size, and options that make no sense", async () => {
    for (const size of [0, 16, 40, archive.length - 1]) {
      expect(await failureOf(() => openArchive(archive.slice(0, size)))).toBeInstanceOf(FormatError);
      const lying = { ...counted(archive.slice(0, size)), size: archive.length };
      expect(await failureOf(() => openArchive(lying))).toBeInstanceOf(FormatError);
    }
    expect(await failureOf(() => openArchive(archive, { maxBytes: 0 }))).toBeInstanceOf(RangeError);
    expect(await failureOf(() => openArchive(5 as never))).toBeInstanceOf(TypeError);
  });
});
