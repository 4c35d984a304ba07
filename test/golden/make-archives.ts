/**
 * Makes the golden archives and their digests:
 *
 *   npx tsx test/golden/make-archives.ts
 *
 * It makes the files that digests.json does not name; run it once a version. What it makes depends on the codec of that day; the files stay as they are, because what
 * they are for is that later code reads them.
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { encodeArchive, type WriteOptions } from "../../src/archive/writer.ts";
import { createProfile } from "../../src/cache/profile.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { compress } from "../../src/codec/compress.ts";
import { compressOnBases } from "../../src/codec/given-bases.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import { instantiate, type Runtime } from "../../src/runtime/runtime.ts";
import { TinyCache, type TinyCacheOptions } from "../support/tiny-cache.ts";

/** Between them: every section, flag, book width and kind, rotary layout, exact type, and span none, 1 and 32. */
const CASES: Record<string, [TinyCacheOptions, Partial<CodecOptions>]> = {
  "v1-metric": [
    { layers: 2, tokens: 70, queries: 8, noise: 0.2, type: "f16" },
    { sinks: 2, recent: 3, anchorSpan: 32, keyBits: 1.5 },
  ],
  "v1-paper": [
    { layers: 1, kvHeads: 1, headDim: 40, tokens: 40, layout: "interleaved", pairs: 15, type: "bf16", ids: false },
    { sinks: 1, recent: 2, schedule: [8, 4, 2, 1, 1, 0, 0, 0] },
  ],
  "v1-heads": [
    { layers: 1, kvHeads: 2, headDim: 36, tokens: 33, noise: 0.3, type: "f32" },
    { sinks: 0, recent: 0, grouping: "head", anchorSpan: null, basisBits: 5, valueBits: 1 },
  ],
};

/** Version 2: layer 0 on two bases of different bits, neither a whole number of blocks or spans, layer 1 on one. */
export async function twoSegments(runtime: Runtime): Promise<CodedCache> {
  const of = (tokens: number, keyBits: number, layers = 1) => {
    const source = new TinyCache({ layers, kvHeads: 2, headDim: 32, tokens, queries: 8, noise: 0.2, type: "f16" });
    return compress(runtime, source, { sinks: 2, recent: 3, anchorSpan: 32, keyBits });
  };
  const [old, next, whole] = [await of(43, 1), await of(53, 2), await of(91, 1.5, 2)];
  const { keys, values } = old.layers[0];
  const first = { ...next.layers[0], earlier: [{ tokens: 38, keys, values }] };
  return { ...whole, layers: [first, whole.layers[1]] };
}

/** Version 3: streams of two range codes, then a segment in planes. */
export async function streams(runtime: Runtime): Promise<CodedCache> {
  const of = (tokens: number, entropy: boolean) => {
    const source = new TinyCache({ layers: 1, kvHeads: 1, headDim: 32, tokens, queries: 8, noise: 0.2, type: "f16" });
    return compress(runtime, source, { sinks: 2, recent: 3, anchorSpan: 32, keyBits: 1.5, valueBits: 1.5, entropy });
  };
  const [old, next, whole] = [await of(1060, true), await of(53, false), await of(1108, false)];
  const { keys, values } = old.layers[0];
  return { ...whole, layers: [{ ...next.layers[0], earlier: [{ tokens: 1055, keys, values }] }] };
}

/** Version 3: a span for each rotary pair, and dimensions that never turn. */
const PAIR_SPANS: [TinyCacheOptions, Partial<CodecOptions>] = [
  { layers: 1, kvHeads: 2, headDim: 36, tokens: 90, pairs: 7, layout: "interleaved", queries: 8, noise: 0.2 },
  { sinks: 2, recent: 3, anchorSpan: [null, 8, 32, 8, 64, 1, 64], keyBits: 1.5 },
];

/** Version 4: streams on the bases of a profile, which lies beside it. */
export async function onProfile(runtime: Runtime): Promise<{ cache: CodedCache; profile: CodedCache }> {
  const of = (seed: number) =>
    new TinyCache({ layers: 1, kvHeads: 2, headDim: 32, tokens: 90, queries: 8, noise: 0.2, type: "f16", seed });
  const profile = await createProfile(runtime, [of(1), of(2)], { keyBits: 3, valueBits: 3, anchorSpan: 32 });
  const options = { sinks: 2, recent: 3, keyBits: 1.5, valueBits: 1.5, entropy: true };
  return { cache: await compressOnBases(runtime, of(3), profile, options), profile };
}

/** SHA-256 of the restored tensors, f32, layer by layer keys then values. */
export function digestOf(runtime: Runtime, cache: CodedCache): string {
  const hash = createHash("sha256");
  for (let layer = 0; layer < cache.layers.length; layer++) {
    const { key, value } = restoreLayer(runtime, cache, layer, "f32");
    hash.update(key).update(value);
  }
  return hash.digest("hex");
}

async function make(): Promise<void> {
  const runtime = await instantiate(new WebAssembly.Module(readFileSync("dist/kernels.wasm")));
  const digests: Record<string, string> = JSON.parse(readFileSync("test/golden/digests.json", "utf8"));
  const write = (name: string, cache: CodedCache, options: WriteOptions = {}): void =>
    writeFileSync(`test/golden/${name}.svdq`, joinChunks(encodeArchive(cache, options)));
  const add = (name: string, cache: CodedCache, options: WriteOptions = {}): void => {
    write(name, cache, options);
    digests[name] = digestOf(runtime, cache);
  };
  for (const [name, [shape, options]] of Object.entries(CASES)) {
    if (!digests[name]) add(name, await compress(runtime, new TinyCache(shape), options));
  }
  if (!digests["v2-segments"]) add("v2-segments", await twoSegments(runtime));
  if (!digests["v3-streams"]) add("v3-streams", await streams(runtime));

  if (!digests["v3-pair-spans"]) {
    const [shape, options] = PAIR_SPANS;
    add("v3-pair-spans", await compress(runtime, new TinyCache(shape), options));
  }
  if (!digests["v4-profile"]) {
    const { cache, profile } = await onProfile(runtime);
    write("v4-profile.bases", profile);
    add("v4-profile", cache, { profile });
  }
  writeFileSync("test/golden/digests.json", `${JSON.stringify(digests, null, 2)}\n`);
}

if (process.argv[1]?.endsWith("make-archives.ts")) await make();
