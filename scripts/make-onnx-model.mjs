// Makes the ONNX folder of the real model, for tests and the demo on Transformers.js: node scripts/make-onnx-model.mjs
//
// models/SmolLM2-135M-Instruct-ONNX/ (config.json, onnx/model_q4.onnx, 117 MB) out of the GGUF file that
// scripts/fetch-model.mjs brings, with its tokenizer; load it with dtype "q4". Nothing happens where it is there already.
// Git ignores models/.
import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { tsImport } from "tsx/esm/api";

const SOURCE = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
const TARGET = "models/SmolLM2-135M-Instruct-ONNX";

if (existsSync(TARGET)) {
  console.log(`${TARGET} is there`);
} else {
  const { readGgufDecoder } = await tsImport("./onnx/gguf-weights.ts", import.meta.url);
  const { decoderModel } = await tsImport("./onnx/decoder.ts", import.meta.url);
  const { config, weights } = await readGgufDecoder(SOURCE);
  const folder = `${TARGET}.part`;
  mkdirSync(`${folder}/onnx`, { recursive: true });
  writeFileSync(`${folder}/onnx/model_q4.onnx`, decoderModel(config, weights, "float32"));
  writeFileSync(`${folder}/config.json`, JSON.stringify(config, null, 1));
  const { bos_token_id, eos_token_id } = config;
  writeFileSync(`${folder}/generation_config.json`, JSON.stringify({ bos_token_id, eos_token_id }));
  renameSync(folder, TARGET);
  console.log(`${TARGET} is there now`);
}
if (!existsSync(`${TARGET}/tokenizer.json`)) {
  const { readGgufTokenizer } = await tsImport("./onnx/gguf-tokenizer.ts", import.meta.url);
  for (const [name, content] of Object.entries(await readGgufTokenizer(SOURCE))) {
    writeFileSync(`${TARGET}/${name}`, JSON.stringify(content));
  }
  console.log(`${TARGET} has its tokenizer now`);
}
