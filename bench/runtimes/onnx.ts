/** The peer onnxruntime-web as scripts/fetch-engine.mjs brings it, and its model of the attend step on the fixture. */
import { existsSync } from "node:fs";
import { openDump } from "../../src/engines/dump.ts";
import { onnxAttention } from "../onnx-attention.ts";

/** Below the repository. The build without WebGPU; its .wasm lies beside it. */
const MODULE = "build/engines/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs";
export const ONNX_MODULE: string | undefined = existsSync(MODULE) ? MODULE : undefined;

/** MatMul, Softmax, MatMul on as many tokens and heads as programme.mjs compresses. */
export async function attentionModel(fixture: Uint8Array): Promise<Uint8Array> {
  const dump = await openDump(fixture);
  const { kvHeads, headDim } = dump.geometry;
  const query = await dump.queryTensor(0);
  if (!query) throw new Error("fixture: expected queries, got none");
  return onnxAttention({ kvHeads, headDim, tokens: dump.tokenCount, shared: query.queryHeads / kvHeads });
}
