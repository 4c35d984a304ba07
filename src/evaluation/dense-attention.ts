/**
 * The peer of attention on codes: f32 kernels on the full keys and values of one layer, in linear memory, keys and
 * values loaded once for all query heads of a kv head.
 */
import type { Runtime } from "../runtime/runtime.ts";

/** Tensors (kvHeads, tokens, headDim) f32, keys after RoPE; queryHeads a multiple of kvHeads. */
export interface DenseTensors {
  keys: Float32Array;
  values: Float32Array;
  kvHeads: number;
  queryHeads: number;
  tokens: number;
  headDim: number;
}

export class DenseAttention {
  readonly #runtime: Runtime;
  readonly #tensors: DenseTensors;
  readonly #shared: number;
  readonly #stride: number;
  readonly #reserved: number[] = [];
  readonly #keysPtr: number;
  readonly #valuesPtr: number;
  readonly #queriesPtr: number;
  readonly #scoresPtr: number;
  readonly #weightsPtr: number;
  readonly #inversesPtr: number;
  readonly #outPtr: number;

  /** Throws CapacityError with nothing held. */
  constructor(runtime: Runtime, tensors: DenseTensors) {
    const { keys, values, kvHeads, queryHeads, tokens, headDim } = tensors;
    this.#runtime = runtime;
    this.#tensors = tensors;
    this.#shared = queryHeads / kvHeads;
    this.#stride = Math.ceil(tokens / 4) * 4;
    try {
      this.#keysPtr = this.#reserve(keys.length);
      this.#valuesPtr = this.#reserve(values.length);
      this.#queriesPtr = this.#reserve(queryHeads * headDim);
      this.#scoresPtr = this.#reserve(queryHeads * this.#stride);
      this.#weightsPtr = this.#reserve(queryHeads * this.#stride);
      this.#inversesPtr = this.#reserve(queryHeads);
      this.#outPtr = this.#reserve(queryHeads * headDim);
    } catch (error) {
      this.dispose();
      throw error;
    }
    runtime.heap.f32(this.#keysPtr, keys.length).set(keys);
    runtime.heap.f32(this.#valuesPtr, values.length).set(values);
  }

  /** Outputs of queries, (queryHeads, headDim) each, that see the first `visible` tokens. */
  attend(queries: Float32Array, out: Float32Array, visible: number): void {
    const { kernels, heap } = this.#runtime;
    const { kvHeads, queryHeads, tokens, headDim } = this.#tensors;
    const [shared, stride] = [this.#shared, this.#stride];
    heap.f32(this.#queriesPtr, queries.length).set(queries);
    heap.f32(this.#outPtr, out.length).fill(0);
    const scale = 1 / Math.sqrt(headDim);
    for (let head = 0; head < kvHeads; head++) {
      const first = head * shared;
      const scoresPtr = this.#scoresPtr + 4 * first * stride;
      const weightsPtr = this.#weightsPtr + 4 * first * stride;
      const queriesPtr = this.#queriesPtr + 4 * first * headDim;
      const tensorOffset = 4 * head * tokens * headDim;
      kernels.scoreRows(
        scoresPtr, this.#keysPtr + tensorOffset, queriesPtr, visible, headDim, shared, headDim, stride,
      ); // biome-ignore format: in the order of the kernel
      for (let q = 0; q < shared; q++) {
        const sum = kernels.exponentials(weightsPtr + 4 * q * stride, scoresPtr + 4 * q * stride, visible, scale);
        heap.f32(this.#inversesPtr, queryHeads)[first + q] = 1 / sum;
      }
      kernels.mixRows(
        this.#outPtr + 4 * first * headDim, this.#valuesPtr + tensorOffset, weightsPtr, visible, headDim, shared,
        headDim, stride,
      ); // biome-ignore format: in the order of the kernel
    }
    kernels.scaleRows(this.#outPtr, this.#outPtr, this.#inversesPtr, queryHeads, headDim);
    out.set(heap.f32(this.#outPtr, out.length));
  }

  /** Scores q·k of the last call, not scaled, of one query head on the first `visible` tokens. */
  scores(queryHead: number, visible: number): Float32Array {
    return this.#runtime.heap.f32(this.#scoresPtr + 4 * queryHead * this.#stride, visible).slice();
  }

  dispose(): void {
    for (const ptr of this.#reserved.splice(0)) this.#runtime.heap.release(ptr);
  }

  #reserve(elements: number): number {
    const ptr = this.#runtime.heap.reserve(4 * elements);
    this.#reserved.push(ptr);
    return ptr;
  }
}
