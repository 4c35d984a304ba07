/** Files of the day the format was settled: today's code reads them, restores the same numbers, writes the same bytes. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/reader.ts";
import { joinTokenChunks } from "../../src/archive/token-join.ts";
import { splitByTokens } from "../../src/archive/token-split.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { digestOf } from "../golden/make-archives.ts";
import { ArchiveParts } from "../support/archive-parts.ts";
import { testDirectory } from "../support/directory.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";

const DIGESTS: Record<string, string> = JSON.parse(readFileSync("test/golden/digests.json", "utf8"));
const NAMES = Object.keys(DIGESTS);
const bytesOf = (name: string): Uint8Array => new Uint8Array(readFileSync(`test/golden/${name}.svdq`));
/** The bases that an archive of version 4 lies on. */
const profileOf = (name: string): CodedCache | undefined =>
  existsSync(`test/golden/${name}.bases.svdq`) ? decodeArchive(bytesOf(`${name}.bases`)) : undefined;
const cacheOf = (name: string): CodedCache => decodeArchive(bytesOf(name), name, { profile: profileOf(name) });

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create({});
});

describe.each(NAMES)("golden archive %s", (name) => {
  it("restores to the same numbers on every platform and is written the same way again", async () => {
    const bytes = bytesOf(name);
    const cache = cacheOf(name);
    expect(joinChunks(encodeArchive(cache, { profile: profileOf(name) }))).toEqual(bytes);
    for (const { create } of PLATFORMS) expect(digestOf(await create({}), cache)).toBe(DIGESTS[name]);
  });
});

it("the golden archives hold, between them, all that the format has", () => {
  const caches = NAMES.map(cacheOf);
  const all = <T>(of: (cache: CodedCache) => T[]): T[] => [...new Set(caches.flatMap(of))].sort();
  const groups = (cache: CodedCache) =>
    cache.layers.flatMap(({ earlier = [], keys, values }) =>
      [...earlier, { keys, values }].flatMap((segment) => [...segment.keys, ...segment.values]),
    );
  expect(all((cache) => groups(cache).flatMap(({ books }) => books.map(({ width }) => width)))).toEqual([1, 2, 4, 8]);
  expect(all((cache) => groups(cache).flatMap(({ books }) => books.map(({ kind }) => kind)))).toEqual([
    "normal",
    "uniform",
  ]);
  expect(all((cache) => groups(cache).flatMap(({ books }) => books.map(({ offset }) => offset === 0)))).toEqual([
    false,
    true,
  ]);
  expect(all((cache) => groups(cache).map(({ basis }) => basis.columnScales === undefined))).toEqual([false, true]);
  expect(all((cache) => groups(cache).map(({ stream }) => stream === undefined))).toEqual([false, true]);
  expect(all((cache) => [cache.rotary.layout])).toEqual(["half-split", "interleaved"]);
  expect(all((cache) => [cache.exactType])).toEqual(["bf16", "f16", "f32"]);
  expect(all<unknown>(({ anchorSpan }) => [Array.isArray(anchorSpan) ? "a list" : anchorSpan])).toEqual([
    1,
    32,
    "a list",
    null,
  ]);
  expect(all((cache) => [cache.tokens === undefined])).toEqual([false, true]);
});

/** Python 3, or undefined. */
const python = ["python3", "python"].find(
  (name) => spawnSync(name, ["-c", "import sys; sys.exit(sys.version_info < (3, 8))"]).status === 0,
);
if (!python)
  console.warn("no Python 3 here: the second reader of archives, test/golden/read_archive.py, is not compared");

describe.skipIf(!python)("the second reader, written from docs/format.md", () => {
  const path = testDirectory();
  const read = (file: string, ...more: string[]) =>
    spawnSync(python!, ["test/golden/read_archive.py", file, "-o", path("out.f32"), ...more], { encoding: "utf8" });
  const basesOf = (name: string): string[] => (profileOf(name) ? ["-p", `test/golden/${name}.bases.svdq`] : []);

  it.each(NAMES)("finds the same numbers in %s", (name) => {
    const { status, stdout, stderr } = read(`test/golden/${name}.svdq`, ...basesOf(name));
    expect(stderr).toBe("");
    expect(status).toBe(0);
    const cache = cacheOf(name);
    const { tokens, ...header } = JSON.parse(stdout);
    expect(header).toEqual(new ArchiveParts(bytesOf(name)).header);
    expect(tokens).toEqual(cache.tokens && Array.from(cache.tokens));
    const got = new Float32Array(new Uint8Array(readFileSync(path("out.f32"))).buffer);
    const tensors = cache.layers.flatMap((_, layer) => Object.values(restoreLayer(runtime, cache, layer, "f32")));
    const expected = tensors.flatMap((bytes) => Array.from(new Float32Array(bytes.buffer)));
    expect(got.length).toBe(expected.length);
    // f64 sums beside f32 sums of at most 72 terms.
    const largest = expected.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    const worst = expected.reduce((a, x, i) => Math.max(a, Math.abs(x - got[i])), 0);
    expect(worst).toBeLessThan(1e-5 * largest);
    expect(largest).toBeGreaterThan(1);
  });

  it.each(["v1-metric", "v2-segments", "v3-streams", "v3-pair-spans"])("finds the same in chunks of %s", (name) => {
    const cache = decodeArchive(bytesOf(name));
    expect(read(`test/golden/${name}.svdq`).status).toBe(0);
    const whole = readFileSync(path("out.f32"));
    const chunks = splitByTokens(cache, { chunkTokens: 32 }).map(({ bytes }) => bytes);
    writeFileSync(path("chunks"), joinChunks(chunks));
    const { status, stdout, stderr } = read(path("chunks"));
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(JSON.parse(stdout).tokenCount).toBe(cache.tokenCount);
    expect(Buffer.compare(readFileSync(path("out.f32")), whole)).toBe(0);
  });

  it("finds the same in a stream that is cut into several chunks of tokens", async () => {
    const source = new TinyCache({ layers: 1, kvHeads: 1, headDim: 32, tokens: 2300, noise: 0.3 });
    const cache = await compress(runtime, source, { entropy: true, keyBits: 2, valueBits: 1, recent: 20 });
    writeFileSync(path("whole.svdq"), joinChunks(encodeArchive(cache)));
    expect(read(path("whole.svdq")).stderr).toBe("");
    const whole = readFileSync(path("out.f32"));
    const chunks = splitByTokens(cache).map(({ bytes }) => bytes);
    expect(chunks.length).toBe(3);
    for (const count of [3, 2]) {
      writeFileSync(path("chunks"), joinChunks(chunks.slice(0, count)));
      expect(read(path("chunks")).stderr).toBe("");
      const part = joinTokenChunks(chunks.slice(0, count));
      const { key, value } = restoreLayer(runtime, part, 0, "f32");
      const expected = [key, value].flatMap((bytes) => Array.from(new Float32Array(bytes.buffer)));
      const got = new Float32Array(new Uint8Array(readFileSync(path("out.f32"))).buffer);
      expect(got.length).toBe(expected.length);
      const worst = expected.reduce((a, x, i) => Math.max(a, Math.abs(x - got[i])), 0);
      expect(worst).toBeLessThan(1e-5 * expected.reduce((a, b) => Math.max(a, Math.abs(b)), 0));
      if (count === 3) expect(Buffer.compare(readFileSync(path("out.f32")), whole)).toBe(0);
    }
  });

  it("refuses an archive on the bases of a profile without it, and with what is none", () => {
    const file = "test/golden/v4-profile.svdq";
    expect(read(file).stderr).toMatch(/profile [0-9a-f]{16} expected, got none/);
    expect(read(file, "-p", "test/golden/v1-metric.svdq").stderr).toContain("no profile: an archive without tokens");
  });

  it("refuses damage too", () => {
    const whole = bytesOf("v1-paper");
    const { header } = new ArchiveParts(whole);
    const first = whole.length - header.sections.at(-1)!.offset - header.sections.at(-1)!.bytes;
    const places = [0, 8, 30, 40, ...header.sections.map(({ offset, bytes }) => first + offset + bytes - 1)];
    for (const place of places) {
      const bytes = whole.slice();
      bytes[place] ^= 0x10;
      writeFileSync(path("damaged.svdq"), bytes);
      const { status, stderr } = read(path("damaged.svdq"));
      expect([status, stderr]).toEqual([1, expect.stringMatching(/^.*damaged\.svdq: (magic|version|.*checksum)/)]);
    }
  });
});
