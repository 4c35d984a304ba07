// Transformers.js: a prompt's cache goes to a file and comes back, and generation goes on from it.
// npm install @huggingface/transformers; scripts/make-onnx-model.mjs makes the model's folder.
import { AutoModelForCausalLM, DynamicCache, env, Tensor } from "@huggingface/transformers";
import { createRuntime, readArchive, writeArchive } from "svdq";
import { openDump } from "svdq/engines/safetensors";
import { compressCache, restoreCache } from "svdq/engines/transformers-js";

const path = process.argv[2] ?? "chat.svdq";
const runtime = await createRuntime();
env.localModelPath = "models";
env.allowRemoteModels = false;
const model = await AutoModelForCausalLM.from_pretrained("SmolLM2-135M-Instruct-ONNX", { dtype: "q4" });

// Token ids of a novel stand in for a tokenizer's.
const dump = await openDump("test/fixtures/smollm2-novel.safetensors");
const prompt = [...dump.tokens.slice(0, 160)];
await dump.close();
const int64 = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
const inputs = (ids) => ({ input_ids: int64(ids), attention_mask: int64(ids.map(() => 1)), do_sample: false });

// `generate` fills the cache that it is given: with all of the prompt but its last token.
const held = prompt.slice(0, -1);
const cache = new DynamicCache();
await model.generate({ ...inputs(held), max_new_tokens: 1, past_key_values: cache });
const options = { keyBits: 4, valueBits: 4, recent: 16 }; // a short prompt: few tokens to share a basis
const { coded } = await compressCache(runtime, cache, { config: model.config, tokens: held, options });
await writeArchive(path, coded);

// Later, with the whole prompt: the model computes what the cache does not hold.
const past = restoreCache(runtime, await readArchive(path), { Tensor, DynamicCache, config: model.config });
const out = await model.generate({ ...inputs(prompt), max_new_tokens: 8, past_key_values: past });
console.log(`${past.get_seq_length()} tokens in the cache; said ${Array.from(out.data, Number).slice(-8).join(" ")}`);
await model.dispose();
