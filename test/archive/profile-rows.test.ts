/** Archives on a profile's bases: they come back with that profile, and are refused without it or with another. */
import { beforeAll, describe, expect, it } from "vitest";
import { profileFingerprint } from "../../src/archive/profile-rows.ts";
import { decodeArchive, openArchive } from "../../src/archive/reader.ts";
import { archiveStream, decodeArchiveStream } from "../../src/archive/web-streams.ts";
import { encodeArchive, type WriteOptions } from "../../src/archive/writer.ts";
import { createProfile } from "../../src/cache/profile.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { compressOnBases, type GivenBasesOptions } from "../../src/codec/given-bases.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import { FormatError, MismatchError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { ArchiveParts } from "../support/archive-parts.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";

const ENDS = { sinks: 2, recent: 6 };
const CASES: [string, Partial<CodecOptions>, Partial<GivenBasesOptions>][] = [
  ["planes", {}, {}],
  ["streams", {}, { entropy: true, keyBits: 2 }],
  ["a basis a head, keys after RoPE", { grouping: "head", anchorSpan: null }, {}],
  ["a span for each pair", { anchorSpan: [1, 32, 32, 64, ...new Array(12).fill(64)] }, {}],
  ["bits for hardly a channel", {}, { keyBits: 0.1, valueBits: 0.1 }],
];

let runtime: Runtime;
const cacheOf = (seed: number) => new TinyCache({ queries: 16, noise: 0.2, seed });
const profileOf = (options: Partial<CodecOptions>, seed = 1): Promise<CodedCache> =>
  createProfile(runtime, [cacheOf(seed), cacheOf(seed + 1)], { keyBits: 4, valueBits: 4, ...options });
const bytesOf = (cache: CodedCache, options: WriteOptions): Uint8Array => joinChunks(encodeArchive(cache, options));

beforeAll(async () => {
  runtime = await PLATFORMS[2].create({});
});

describe.each(CASES)("an archive of %s on a profile", (_, ofProfile, options) => {
  let profile: CodedCache;
  let cache: CodedCache;
  let bytes: Uint8Array;
  beforeAll(async () => {
    profile = await profileOf(ofProfile);
    cache = await compressOnBases(runtime, cacheOf(9), profile, { ...ENDS, ...options });
    bytes = bytesOf(cache, { profile });
  });

  it("comes back bit for bit, whole, by ranges and as a stream, and is written the same way again", async () => {
    expect(new ArchiveParts(bytes)).toMatchObject({ version: 4, header: { profile: profileFingerprint(profile) } });
    const back = decodeArchive(bytes, "x", { profile });
    expect(back).toStrictEqual(cache);
    expect(bytesOf(back, { profile })).toEqual(bytes);
    expect(await openArchive(new Blob([bytes as BlobPart]), { profile })).toStrictEqual(cache);
    const stream = archiveStream(cache, { profile });
    expect(await decodeArchiveStream(stream, { profile })).toStrictEqual(cache);
  });

  it("takes fewer bytes than with rows of its own, and those are read without a profile", () => {
    const own = bytesOf(cache, {});
    expect(bytes.length).toBeLessThan(own.length);
    expect(decodeArchive(own)).toStrictEqual(cache);
  });

  it("is refused without the profile, and with another", async () => {
    const named = profileFingerprint(profile);
    const other = await profileOf(ofProfile, 5);
    expect(profileFingerprint(other)).not.toBe(named);
    const refused = (got: string) =>
      new MismatchError(`x: expected the profile ${named}, whose bases it is coded on, got ${got}`);
    expect(() => decodeArchive(bytes, "x")).toThrow(refused("none"));
    expect(() => decodeArchive(bytes, "x", { profile: other })).toThrow(refused(profileFingerprint(other)));
    await expect(openArchive(new Blob([bytes as BlobPart]))).rejects.toThrow(MismatchError);
    const stream = new Blob([bytes as BlobPart]).stream();
    await expect(decodeArchiveStream(stream)).rejects.toThrow(MismatchError);
  });
});

describe("what is unsound", () => {
  let profile: CodedCache;
  let bytes: Uint8Array;
  beforeAll(async () => {
    profile = await profileOf({});
    bytes = bytesOf(await compressOnBases(runtime, cacheOf(9), profile, ENDS), { profile });
  });

  it("rows that are none of the profile's are not written", async () => {
    const own = await compress(runtime, cacheOf(9), ENDS);
    expect(() => encodeArchive(own, { profile })).toThrow(/^keys of layer 0: expected .* of the profile, got others/);
    const heads = await compress(runtime, cacheOf(9), { ...ENDS, grouping: "head" });
    expect(() => encodeArchive(heads, { profile })).toThrow(/in the profile, got 2 heads from 0 on$/);
  });

  it("numbers past the profile's rows, basis rows beside a profile, and bad names are refused", () => {
    const read = (file: Uint8Array) => () => decodeArchive(file, "x", { profile });
    const change = (at: (channels: number) => number, set: (view: DataView, at: number) => void) =>
      new ArchiveParts(bytes)
        .edit("keys", 0, (section) => {
          const view = new DataView(section.buffer, section.byteOffset);
          set(view, at(view.getUint16(4, true)));
          return undefined;
        })
        .bytes();
    // Of n channels: 8 bytes, width, kind and scale of the books, widths of the rows, their scales.
    const number = change(
      (n) => 8 + 7 * n,
      (view, at) => view.setFloat32(at, 64, true),
    );
    expect(read(number)).toThrow(/^x: keys of layer 0: expected rows 0 to \d+ of the profile, got 64/);
    const width = change(
      (n) => 8 + 6 * n,
      (view, at) => view.setUint8(at, 3),
    );
    expect(read(width)).toThrow(/basis.widths\[0\]: expected 0 where rows lie in a profile, got 3/);
    for (const name of [undefined, 7, "", "0123456789ABCDEF"]) {
      const parts = new ArchiveParts(bytes);
      const { profile: _, ...header } = parts.header;
      expect(read(parts.withHeader({ ...header, ...(name !== undefined && { profile: name }) }))).toThrow(
        /header: profile: expected 16 hex digits/,
      );
      expect(read(parts.withHeader({ ...header, profile: name }))).toThrow(FormatError);
    }
  });
});
