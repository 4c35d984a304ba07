// tsx scripts/compare-profiles.ts --calibrate TEXT… --on TEXT… [--context 512,2048,8192]: what a cache loses and takes on
// bases of its own, on a profile's with bits of its own, and on a profile's with the profile's bits and books (as a
// live cache codes), by SmolLM2-135M's next token through llama.cpp. The profile is made of the first 2,048 tokens of
// the texts to calibrate on. docs/eval.md has the output. npm run eval:smollm2 brings the model.
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { encodeArchive } from "../src/archive/writer.ts";
import { KvCache } from "../src/cache/kv-cache.ts";
import { createProfile } from "../src/cache/profile.ts";
import { bytesOf } from "../src/codec/bytes.ts";
import { type CodedCache, codedTokens } from "../src/codec/coded.ts";
import { compress } from "../src/codec/compress.ts";
import { rowDim } from "../src/codec/geometry.ts";
import { compressOnBases } from "../src/codec/given-bases.ts";
import { restoreLayer } from "../src/codec/restore.ts";
import type { CacheSource } from "../src/codec/source.ts";
import { llamaStateOf, parseLlamaState, readGgufModel } from "../src/engines/llama-cpp.ts";
import { readProfile } from "../src/engines/profile.ts";
import { evaluate, FEED_CHUNK, inChunks } from "../src/evaluation/eval/evaluate.ts";
import { cacheOf, ENDS, type EvalMethod, methodsWith, WINDOW } from "../src/evaluation/eval/methods.ts";
import { openNodeLlama } from "../src/evaluation/eval/node-llama-cpp.ts";
import { cutText } from "../src/evaluation/eval/text.ts";
import { loadF32 } from "../src/evaluation/tensors.ts";
import { instantiate, type Runtime } from "../src/runtime/runtime.ts";

const MODEL = "models/SmolLM2-135M-Instruct.f32.gguf";
const CALIBRATED_TOKENS = 2048;
const CONTINUATION = 128;
/** Rows for more bits than any cache below takes, and those of the live cache's own bits. */
const [MANY_BITS, LIVE_BITS] = [
  { keyBits: 4, valueBits: 4 },
  { keyBits: 1.25, valueBits: 2 },
];

const { values: flags } = parseArgs({
  options: {
    calibrate: { type: "string", multiple: true, default: [] },
    on: { type: "string", multiple: true, default: [] },
    context: { type: "string", default: "512,2048,8192" },
  },
});
const contexts = flags.context.split(",").map(Number);
const runtime = await instantiate(new WebAssembly.Module(readFileSync("dist/kernels.wasm")));
const [model, queries] = [await readGgufModel(MODEL), await readProfile("test/fixtures/smollm2.profile")];
const contextSize = Math.max(CALIBRATED_TOKENS, ...contexts) + CONTINUATION + 16;
const engine = await openNodeLlama({ modelPath: MODEL, contextSize, threads: 2 });

/** Caches of the first tokens of texts, as the engine saves them. */
async function cachesOf(paths: string[]): Promise<CacheSource[]> {
  const folder = await mkdtemp(join(tmpdir(), "svdq-profiles-"));
  const caches: CacheSource[] = [];
  try {
    for (const path of paths) {
      const lengths = { context: CALIBRATED_TOKENS, continuation: 1 };
      const text = cutText(engine, basename(path), readFileSync(path, "utf8"), lengths);
      await engine.clear();
      await inChunks(text.context, FEED_CHUNK, undefined, (tokens) => engine.feed(tokens));
      await engine.save(join(folder, "state.bin"));
      caches.push(cacheOf(parseLlamaState(await readFile(join(folder, "state.bin"))), model, queries));
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return caches;
}

/** Codes as `encode` makes them; bits are those of a whole file but for its exact tokens. */
const method = (
  name: string,
  profile: CodedCache | undefined,
  encode: (runtime: Runtime, source: CacheSource) => Promise<CodedCache>,
): EvalMethod => ({
  name,
  async apply(runtime, state, source) {
    const cache = await encode(runtime, source);
    const { keys, values } = bytesOf(cache);
    const fileBytes = encodeArchive(cache, { profile }).reduce((sum, { length }) => sum + length, 0);
    const elements = 2 * cache.geometry.layerCount * codedTokens(cache) * rowDim(cache.geometry);
    const bits = (8 * (fileBytes - keys.exact - values.exact)) / elements;
    const file = llamaStateOf(state, source.geometry, state.type, (layer) =>
      restoreLayer(runtime, cache, layer, state.type),
    );
    return { bits, bitsWithBasis: bits, file };
  },
});

async function codedLive(runtime: Runtime, source: CacheSource, profile: CodedCache): Promise<CodedCache> {
  const cache = KvCache.fromProfile(runtime, profile, { ...ENDS, driftLimit: null, monitorEvery: 0 });
  const { geometry, tokenCount } = source;
  const layout = { tokens: tokenCount, headStride: tokenCount * geometry.headDim, tokenStride: geometry.headDim };
  try {
    for (let layer = 0; layer < geometry.layerCount; layer++) {
      const rows = async (of: "key" | "value") => loadF32(runtime, await source[of](layer), source);
      cache.append(layer, await rows("key"), await rows("value"), layout);
    }
    return cache.save();
  } finally {
    cache.dispose();
  }
}

const calibrated = await cachesOf(flags.calibrate);
const make = (bits: typeof MANY_BITS) => createProfile(runtime, calibrated, { ...bits, anchorSpan: 1 });
const [wide, live] = [await make(MANY_BITS), await make(LIVE_BITS)];

const own = (keyBits: number, valueBits: number, entropy: boolean): EvalMethod => {
  const options = { ...ENDS, keyBits, valueBits, entropy };
  const name = `own bases, K ${keyBits} V ${valueBits}${entropy ? " at entropy" : ""}`;
  return method(name, undefined, (runtime, source) => compress(runtime, source, options));
};
const onProfile = (keyBits: number, valueBits: number, entropy: boolean): EvalMethod => {
  const options = { ...ENDS, keyBits, valueBits, entropy };
  const name = `profile, own bits, K ${keyBits} V ${valueBits}${entropy ? " at entropy" : ""}`;
  return method(name, wide, (runtime, source) => compressOnBases(runtime, source, wide, options));
};
const methods = [
  ...methodsWith([]).filter(({ name }) => name === WINDOW),
  own(1.25, 2, false),
  method("profile's bits, K 1.25 V 2", live, (runtime, source) => codedLive(runtime, source, live)),
  onProfile(1.25, 2, false),
  own(0.75, 1.25, true),
  onProfile(0.75, 1.25, true),
  onProfile(1, 1.5, true),
];

console.log("| tokens | way | bits, all counted | mean KL | seconds |\n|--:|---|--:|--:|--:|");
for (const context of contexts) {
  const texts = flags.on.map((path) =>
    cutText(engine, basename(path), readFileSync(path, "utf8"), { context, continuation: CONTINUATION }),
  );
  const rows = await evaluate(runtime, engine, model, texts, methods, {
    profile: queries,
    onStep: (what) => console.error(`${context} tokens: ${what}`),
  });
  for (const { method, bits, kl, seconds } of rows) {
    console.log(`| ${context} | ${method} | ${bits.toFixed(2)} | ${kl.toFixed(5)} | ${seconds.toFixed(2)} |`);
  }
}
await engine.dispose();
