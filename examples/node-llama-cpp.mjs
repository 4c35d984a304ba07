// node-llama-cpp: a sequence's state to an archive, and a state file that the engine loads. npm install node-llama-cpp;
// scripts/fetch-model.mjs brings the model.
import { readFile, writeFile } from "node:fs/promises";
import { getLlama } from "node-llama-cpp";
import { createRuntime, readArchive, writeArchive } from "svdq";
import { compressLlamaState, readGgufModel, readProfile, restoreLlamaState } from "svdq/engines/llama-cpp";

const path = process.argv[2] ?? "prefix.svdq";
const modelPath = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const engine = await llama.loadModel({ modelPath });
const context = await engine.createContext({ contextSize: 512, threads: 1, flashAttention: true });
const sequence = context.getSequence();

const story = "The captain counted the casks twice, and wrote 481 into the book. ".repeat(20);
const tokens = engine.tokenize(`${story}Once more: he counted the casks twice, and wrote 48`);
await sequence.controlledEvaluate(tokens.slice(0, -1));
await sequence.saveStateToFile(`${path}.state`);

// The GGUF file says how keys are turned; the profile, which is not needed, what errors cost the model.
const runtime = await createRuntime();
const model = await readGgufModel(modelPath);
const profile = await readProfile("test/fixtures/smollm2.profile");
const state = await readFile(`${path}.state`);
const { coded } = await compressLlamaState(runtime, state, { model, profile });
await writeArchive(path, coded);

const restored = restoreLlamaState(runtime, await readArchive(path), { model, flashAttention: true });
await writeFile(`${path}.state`, restored);
await sequence.clearHistory();
await sequence.loadStateFromFile(`${path}.state`, { acceptRisk: true });
const next = { generateNext: { token: true, options: { temperature: 0 } } };
const outputs = await sequence.controlledEvaluate([[tokens.at(-1), next]]);
console.log(`${coded.tokenCount} tokens in the cache; next "${engine.detokenize([outputs[0].next.token])}"`);
await llama.dispose();
