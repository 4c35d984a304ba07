/**
 * One process prefills a real model and uploads its compressed cache; another, which never saw it, finds it by the
 * prompt's tokens, downloads and restores it and goes on. Both print the first tokens that come then. A third one does so
 * for a longer prompt, prefills what is new in it, and uploads the longer cache: the chunks that were there stay there.
 *
 *   npx tsx demo/worker/end-to-end.ts upload|continue|extend [--url http://127.0.0.1:8787] [--json]
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type CodedCache, createRuntime, extendCache, fingerprintOf, joinTokenChunks, splitByTokens } from "svdq";
import {
  compressLlamaState,
  type GgufModel,
  parseLlamaState,
  readGgufModel,
  restoreLlamaState,
  sourceOfLlamaState,
} from "svdq/engines/llama-cpp";
import type { EvalEngine } from "../../src/evaluation/eval/engine.ts";
import { openNodeLlama } from "../../src/evaluation/eval/node-llama-cpp.ts";
import { PrefixClient } from "./client.ts";

/** Enough tokens for bases to pay; what is asked comes after the shared part. */
const facts = (first: number, count: number): string =>
  Array.from({ length: count }, (_, i) => first + i)
    .map((i) => `Chapter ${i + 1} tells how ship number ${i * 7 + 3} came home.`)
    .join("\n");
const PROMPT = `${facts(0, 40)}\nThe three primary colours are red, yellow and`;
const LONGER = `${PROMPT} blue.\n${facts(40, 30)}\nThe capital of France is`;
const OPTIONS = { keyBits: 2, valueBits: 3 };
const COUNT = 24;

export interface Outcome {
  /** Tokens of the prompt, and of those the ones that were not prefilled here. */
  promptTokens: number;
  restoredTokens: number;
  archiveBytes: number;
  /** Of the chunks that were not on the service; 0 where nothing was uploaded. */
  sentBytes: number;
  f16Bytes: number;
  continuation: number[];
}

const argmax = (values: Float32Array): number =>
  values.reduce((best, value, i) => (value > values[best] ? i : best), 0);

/** Feeds the last of the prompt's tokens, then the likeliest token again and again. */
async function goOn(engine: EvalEngine, last: number[]): Promise<number[]> {
  const out: number[] = [];
  for (let next = last; out.length < COUNT; next = [out[out.length - 1]]) {
    out.push(argmax((await engine.score(next)).at(-1)!));
  }
  return out;
}

/** Tokens of the prompt that are prefilled and those that are not: the last one must be fed to get the next. */
function cut(engine: EvalEngine, prompt = PROMPT): { context: Int32Array; last: number[] } {
  const tokens = engine.tokenize(prompt);
  return { context: Int32Array.from(tokens.slice(0, -1)), last: tokens.slice(-1) };
}

const identityOf = (model: GgufModel): string =>
  fingerprintOf({ ...model, layerNumbers: Array.from({ length: model.geometry.layerCount }, (_, i) => i) });

const f16BytesOf = ({ geometry: { layerCount, kvHeads, headDim } }: GgufModel, tokens: number): number =>
  4 * layerCount * kvHeads * headDim * tokens;

/** By chunks of tokens, of which the client uploads those that the service does not have. */
const put = (client: PrefixClient, model: GgufModel, context: Int32Array, coded: CodedCache) =>
  client.put({
    model: identityOf(model),
    tokens: context,
    chunks: splitByTokens(coded),
    labels: { title: "Chapters", model: model.model.slice(0, 100), f16Bytes: f16BytesOf(model, context.length) },
  });

async function upload(engine: EvalEngine, model: GgufModel, client: PrefixClient, path: string): Promise<Outcome> {
  const { context, last } = cut(engine);
  await engine.clear();
  await engine.feed(Array.from(context));
  await engine.save(path);
  const { coded } = await compressLlamaState(await createRuntime(), await readFile(path), { model, options: OPTIONS });
  const { bytes: archiveBytes, sentBytes } = await put(client, model, context, coded);
  // The exact cache, through a file as the other process has it.
  await engine.load(path);
  const continuation = await goOn(engine, last);
  const counts = { promptTokens: context.length + 1, restoredTokens: 0, archiveBytes, sentBytes };
  return { ...counts, f16Bytes: f16BytesOf(model, context.length), continuation };
}

/** Finds, downloads and restores what the service has of a prompt; the engine then has that many tokens. */
async function restore(
  engine: EvalEngine,
  model: GgufModel,
  client: PrefixClient,
  path: string,
  context: Int32Array,
): Promise<{ coded: CodedCache; tokenCount: number; bytes: number }> {
  const match = await client.match(identityOf(model), context);
  if (!match) throw new Error("no prefix of this prompt is stored: run `end-to-end.ts upload` first");
  const coded = joinTokenChunks(await client.get(match));
  await writeFile(path, restoreLlamaState(await createRuntime(), coded, { model, flashAttention: true }));
  await engine.load(path);
  return { coded, tokenCount: match.tokenCount, bytes: match.bytes };
}

async function goOnFromStore(
  engine: EvalEngine,
  model: GgufModel,
  client: PrefixClient,
  path: string,
): Promise<Outcome> {
  const { context, last } = cut(engine);
  const { tokenCount, bytes } = await restore(engine, model, client, path, context);
  const continuation = await goOn(engine, [...context.subarray(tokenCount), ...last]);
  const counts = { promptTokens: context.length + 1, restoredTokens: tokenCount, archiveBytes: bytes, sentBytes: 0 };
  return { ...counts, f16Bytes: f16BytesOf(model, tokenCount), continuation };
}

async function extend(engine: EvalEngine, model: GgufModel, client: PrefixClient, path: string): Promise<Outcome> {
  const { context, last } = cut(engine, LONGER);
  const { coded, tokenCount } = await restore(engine, model, client, path, context);
  await engine.feed(Array.from(context.subarray(tokenCount)));
  await engine.save(path);
  const source = sourceOfLlamaState(parseLlamaState(await readFile(path)), model);
  const longer = await extendCache(await createRuntime(), coded, source, OPTIONS);
  const { bytes: archiveBytes, sentBytes } = await put(client, model, context, longer);
  await engine.load(path);
  const continuation = await goOn(engine, last);
  const counts = { promptTokens: context.length + 1, restoredTokens: tokenCount, archiveBytes, sentBytes };
  return { ...counts, f16Bytes: f16BytesOf(model, context.length), continuation };
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string", default: "http://127.0.0.1:8787" },
    model: { type: "string", default: "models/SmolLM2-135M-Instruct.Q4_1.gguf" },
    json: { type: "boolean", default: false },
  },
});
const work = { upload, continue: goOnFromStore, extend }[positionals[0]];
if (!work) throw new RangeError(`expected upload, continue or extend, got ${positionals[0]}`);
const model = await readGgufModel(values.model);
const engine = await openNodeLlama({ modelPath: values.model, contextSize: 2048, threads: 2 });
const folder = await mkdtemp(join(tmpdir(), "svdq-worker-"));
try {
  const client = new PrefixClient(values.url, process.env.SVDQ_TOKEN ?? "demo-token");
  const outcome = await work(engine, model, client, join(folder, "state.bin"));
  const { promptTokens, restoredTokens, archiveBytes, sentBytes, f16Bytes, continuation } = outcome;
  if (values.json) console.log(JSON.stringify(outcome));
  else {
    console.log(`prompt        ${promptTokens} tokens, ${restoredTokens} of them restored and not prefilled`);
    console.log(`archive       ${archiveBytes} bytes, f16 ${f16Bytes}: ${(f16Bytes / archiveBytes).toFixed(2)} times`);
    if (sentBytes > 0) console.log(`uploaded      ${sentBytes} bytes, ${archiveBytes - sentBytes} were there`);
    console.log(`goes on with  ${continuation.join(" ")}`);
  }
} finally {
  await rm(folder, { recursive: true, force: true });
  await engine.dispose();
}
