/** Tensors with the fields of onnxruntime's and Transformers.js's, and caches made of them. */
import type { EngineTensor } from "../../src/engines/onnxruntime.ts";
import type { TinyCache } from "./tiny-cache.ts";

/** As onnxruntime's: type, data, dims; on the CPU. */
export class PlainTensor implements EngineTensor {
  readonly type: string;
  readonly data: ArrayBufferView;
  readonly dims: number[];
  constructor(type: string, data: ArrayBufferView, dims: number[]) {
    this.type = type;
    this.data = data;
    this.dims = dims;
  }
}

/** As onnxruntime's on a GPU: no data before getData, and none after dispose. */
export class GpuTensor implements EngineTensor {
  readonly type: string;
  readonly dims: number[];
  location = "gpu-buffer";
  /** True once the GPU buffer was given back. */
  released = false;
  #data: ArrayBufferView | undefined;

  constructor({ type, data, dims }: PlainTensor) {
    this.type = type;
    this.dims = dims;
    this.#data = data;
  }
  get data(): ArrayBufferView {
    if (this.location !== "cpu") throw new Error("The data is not on CPU. Use `getData()` to download GPU data to CPU");
    return this.#data!;
  }
  async getData(release?: boolean): Promise<ArrayBufferView> {
    if (!this.#data) throw new Error("The tensor is disposed.");
    this.location = "cpu";
    this.released ||= release === true;
    return this.#data;
  }
  dispose(): void {
    this.#data = undefined;
    this.location = "none";
  }
}

/** What Transformers.js puts round a tensor of onnxruntime; its own `data` is not to be touched. */
export class WrappedTensor implements EngineTensor {
  readonly ort_tensor: GpuTensor;
  constructor(tensor: GpuTensor) {
    this.ort_tensor = tensor;
  }
  get type(): string {
    return this.ort_tensor.type;
  }
  get dims(): number[] {
    return this.ort_tensor.dims;
  }
}

/** The tensors of a cache in f32 or f16 (bits), as a session names its outputs. */
export function presentOf(cache: TinyCache, prefix = "present"): Record<string, PlainTensor> {
  const { kvHeads, headDim } = cache.geometry;
  const dims = [1, kvHeads, cache.tokenCount, headDim];
  const tensors: Record<string, PlainTensor> = {};
  cache.layers.forEach((layer, i) => {
    for (const part of ["key", "value"] as const) {
      const { type, bytes } = layer[part];
      const { buffer } = bytes.slice();
      const data = type === "f32" ? new Float32Array(buffer) : new Uint16Array(buffer);
      const name = `${prefix}.${cache.layerNumbers[i]}.${part}`;
      tensors[name] = new PlainTensor(type === "f32" ? "float32" : "float16", data, dims);
    }
  });
  return tensors;
}
