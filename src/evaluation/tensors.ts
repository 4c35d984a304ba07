/** Tensors as engines hold them, as f32 outside linear memory. */
import { rowDim } from "../codec/geometry.ts";
import type { CacheSource, TensorData } from "../codec/source.ts";
import { loadTensor } from "../codec/tensors.ts";
import type { Runtime } from "../runtime/runtime.ts";

/** Elements of a cache's tensor (kvHeads, tokenCount, headDim). */
export const loadF32 = (runtime: Runtime, tensor: TensorData, source: CacheSource): Float32Array =>
  widen(runtime, "tensor", tensor, source.tokenCount * rowDim(source.geometry));

/** `count` elements of a tensor in any type; RangeError for a wrong size, NaN or infinity. `name` says which. */
export function widen(runtime: Runtime, name: string, tensor: TensorData, count: number): Float32Array {
  return runtime.heap.scratch((frame) => {
    const ptr = loadTensor(runtime, frame, name, tensor, count);
    return runtime.heap.f32(ptr, count).slice();
  });
}

/** Tokens first … first + count - 1 of each head of a tensor (heads, tokens, headDim). */
export function middleOf(
  tensor: Float32Array,
  heads: number,
  headDim: number,
  range: { tokens: number; first: number; count: number },
): Float32Array {
  const size = range.count * headDim;
  const out = new Float32Array(heads * size);
  for (let h = 0; h < heads; h++) {
    const at = (h * range.tokens + range.first) * headDim;
    out.set(tensor.subarray(at, at + size), h * size);
  }
  return out;
}
