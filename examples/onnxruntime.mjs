// onnxruntime: present.* of a run to codes, codes to past_key_values.* of the next. npm install onnxruntime-node;
// scripts/make-onnx-model.mjs makes the model's folder.
import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import { compress, createRuntime, readArchive, writeArchive } from "svdq";
import { fromTensors, rotaryOfConfig, toTensors } from "svdq/engines/onnxruntime";
import { openDump } from "svdq/engines/safetensors";

const path = process.argv[2] ?? "prefix.svdq";
const folder = "models/SmolLM2-135M-Instruct-ONNX";
const config = JSON.parse(await readFile(`${folder}/config.json`, "utf8"));
const runtime = await createRuntime();
const session = await ort.InferenceSession.create(`${folder}/onnx/model_q4.onnx`);

// Token ids of a novel stand in for a tokenizer's.
const dump = await openDump("test/fixtures/smollm2-novel.safetensors");
const prompt = [...dump.tokens.slice(0, 160)];
await dump.close();
const int64 = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
const feedsOf = (ids, past, heldCount) => ({
  input_ids: int64(ids),
  attention_mask: int64(Array(heldCount + ids.length).fill(1)),
  num_logits_to_keep: new ort.Tensor("int64", [1n], []),
  ...past,
});
const none = session.inputNames.filter((name) => name.startsWith("past_key_values"));
const empty = () => new ort.Tensor("float32", new Float32Array(0), [1, config.num_key_value_heads, 0, config.head_dim]);
const first = await session.run(
  feedsOf(prompt.slice(0, -1), Object.fromEntries(none.map((name) => [name, empty()])), 0),
);

const { source } = fromTensors(first, { rotary: rotaryOfConfig(config), tokens: prompt.slice(0, -1) });
await writeArchive(path, await compress(runtime, source, { keyBits: 4, valueBits: 4, recent: 16 }));

const past = toTensors(runtime, await readArchive(path), { Tensor: ort.Tensor });
const { logits } = await session.run(feedsOf(prompt.slice(-1), past, source.tokenCount));
console.log(
  `${source.tokenCount} tokens in the cache; next ${logits.data.indexOf(logits.data.reduce((a, b) => Math.max(a, b)))}`,
);
