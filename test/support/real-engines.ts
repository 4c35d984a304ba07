/** Transformers.js and onnxruntime as scripts/fetch-engine.mjs brings them, or as NODE_PATH finds them. */
import { createRequire } from "node:module";
import { resolve } from "node:path";
import type { EngineTensor, TensorClass } from "../../src/engines/onnxruntime.ts";

export interface RealTensor extends EngineTensor {
  readonly data: Float32Array | BigInt64Array | Uint16Array;
  readonly dims: number[];
  readonly ort_tensor?: { location: string; getData(release?: boolean): Promise<unknown> };
  dispose(): void;
}
type AnyTensorClass = TensorClass<RealTensor> &
  (new (
    type: "int64",
    data: BigInt64Array,
    dims: number[],
  ) => RealTensor);

/** As much of onnxruntime-node as the tests use. */
export interface Ort {
  Tensor: AnyTensorClass;
  InferenceSession: {
    create(model: Uint8Array, options?: object): Promise<Session>;
  };
}
export interface Session {
  run(feeds: Record<string, RealTensor>, fetches?: string[]): Promise<Record<string, RealTensor>>;
  release(): Promise<void>;
}

/** As much of Transformers.js. */
export interface Transformers {
  env: { localModelPath: string; allowRemoteModels: boolean };
  Tensor: AnyTensorClass;
  DynamicCache: new (entries?: Record<string, RealTensor>) => object & { get_seq_length(): number };
  AutoModelForCausalLM: {
    from_pretrained(name: string, options: object): Promise<CausalModel>;
  };
}
export interface CausalModel {
  config: Record<string, unknown>;
  generate(options: object): Promise<RealTensor>;
  dispose(): Promise<unknown>;
}

function load<T>(name: string): T | undefined {
  for (const folder of [import.meta.url, resolve("build/engines/_")]) {
    const require = createRequire(folder);
    let path: string;
    try {
      path = require.resolve(name);
    } catch {
      continue;
    }
    return require(path) as T;
  }
  console.log(`left out: tests on the real ${name} (node scripts/fetch-engine.mjs brings it)`);
  return undefined;
}

/** Each is undefined where it is not there; tests that need it are left out, and say so. */
export const loadOrt = (): Ort | undefined => load("onnxruntime-node");
export const loadTransformers = (): Transformers | undefined => load("@huggingface/transformers");
