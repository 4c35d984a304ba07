/**
 * One process prefills a real model and uploads its compressed cache; another, which never saw it, finds it by the
 * prompt's tokens, downloads and restores it and goes on. Both print the first tokens that come then.
 *
 *   npx tsx demo/worker/end-to-end.ts upload|continue [--url http://127.0.0.1:8787] [--json]
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createRuntime, encodeArchive, fingerprintOf } from "svdq";
import { compressLlamaState, type GgufModel, readGgufModel, restoreLlamaState } from "svdq/engines/llama-cpp";
import type { EvalEngine } from "../../src/evaluation/eval/engine.ts";
import { openNodeLlama } from "../../src/evaluation/eval/node-llama-cpp.ts";
import { PrefixClient } from "./client.ts";

/** Enough tokens for bases to pay; what is asked comes after the shared part. */
const FACTS = Array.from({ length: 40 }, (_, i) => `Chapter ${i + 1} tells how ship number ${i * 7 + 3} came home.`);
const PROMPT = `${FACTS.join("\n")}\nThe three primary colours are red, yellow and`;
const OPTIONS = { keyBits: 2, valueBits: 3 };
const COUNT = 24;

export interface Outcome {
  /** Tokens of the prompt, and of those the ones that were not prefilled here. */
  promptTokens: number;
  restoredTokens: number;
  archiveBytes: number;
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
function cut(engine: EvalEngine): { context: Int32Array; last: number[] } {
  const tokens = engine.tokenize(PROMPT);
  return { context: Int32Array.from(tokens.slice(0, -1)), last: tokens.slice(-1) };
}

const identityOf = (model: GgufModel): string =>
  fingerprintOf({ ...model, layerNumbers: Array.from({ length: model.geometry.layerCount }, (_, i) => i) });

async function upload(engine: EvalEngine, model: GgufModel, client: PrefixClient, path: string): Promise<Outcome> {
  const { context, last } = cut(engine);
  await engine.clear();
  await engine.feed(Array.from(context));
  await engine.save(path);
  const { coded } = await compressLlamaState(await createRuntime(), await readFile(path), { model, options: OPTIONS });
  const bytes = new Uint8Array(await new Blob(encodeArchive(coded)).arrayBuffer());
  const { layerCount, kvHeads, headDim } = model.geometry;
  const f16Bytes = 4 * layerCount * kvHeads * headDim * context.length;
  await client.put({
    model: identityOf(model),
    tokens: context,
    chunks: [{ tokenFrom: 0, tokenTo: context.length, bytes }],
    labels: { title: "Chapters", model: model.model.slice(0, 100), f16Bytes },
  });
  // The exact cache, through a file as the other process has it.
  await engine.load(path);
  const continuation = await goOn(engine, last);
  const counts = { promptTokens: context.length + 1, restoredTokens: 0, archiveBytes: bytes.length, f16Bytes };
  return { ...counts, continuation };
}

async function goOnFromStore(
  engine: EvalEngine,
  model: GgufModel,
  client: PrefixClient,
  path: string,
): Promise<Outcome> {
  const { context, last } = cut(engine);
  const match = await client.match(identityOf(model), context);
  if (!match) throw new Error("no prefix of this prompt is stored: run `end-to-end.ts upload` first");
  const archive = await client.get(match);
  await writeFile(path, restoreLlamaState(await createRuntime(), archive, { model, flashAttention: true }));
  await engine.load(path);
  const rest = [...context.subarray(match.tokenCount), ...last];
  const continuation = await goOn(engine, rest);
  const counts = { promptTokens: context.length + 1, restoredTokens: match.tokenCount, archiveBytes: archive.length };
  return { ...counts, f16Bytes: Number(match.labels.f16Bytes), continuation };
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string", default: "http://127.0.0.1:8787" },
    model: { type: "string", default: "models/SmolLM2-135M-Instruct.Q4_1.gguf" },
    json: { type: "boolean", default: false },
  },
});
const work = { upload, continue: goOnFromStore }[positionals[0]];
if (!work) throw new RangeError(`expected upload or continue, got ${positionals[0]}`);
const model = await readGgufModel(values.model);
const engine = await openNodeLlama({ modelPath: values.model, contextSize: 1024, threads: 2 });
const folder = await mkdtemp(join(tmpdir(), "svdq-worker-"));
try {
  const client = new PrefixClient(values.url, process.env.SVDQ_TOKEN ?? "demo-token");
  const outcome = await work(engine, model, client, join(folder, "state.bin"));
  const { promptTokens, restoredTokens, archiveBytes, f16Bytes, continuation } = outcome;
  if (values.json) console.log(JSON.stringify(outcome));
  else {
    console.log(`prompt        ${promptTokens} tokens, ${restoredTokens} of them restored and not prefilled`);
    console.log(`archive       ${archiveBytes} bytes, f16 ${f16Bytes}: ${(f16Bytes / archiveBytes).toFixed(2)} times`);
    console.log(`goes on with  ${continuation.join(" ")}`);
  }
} finally {
  await rm(folder, { recursive: true, force: true });
  await engine.dispose();
}
