/** Engine tensors into linear memory and back; everything from outside is checked here (invariant 7). */
import type { Frame, Heap } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { ELEMENT_BYTES, type ElementType, type TensorData } from "./source.ts";

/** Address of `count` f32 elements. Throws RangeError for a wrong size, NaN or infinity. `name` says which tensor. */
export function loadTensor(runtime: Runtime, frame: Frame, name: string, tensor: TensorData, count: number): number {
  const { kernels, heap } = runtime;
  const expected = count * ELEMENT_BYTES[tensor.type];
  if (tensor.bytes.length !== expected) {
    throw new RangeError(`${name}: expected ${expected} bytes (${count} ${tensor.type}), got ${tensor.bytes.length}`);
  }
  const ptr = frame.reserve(4 * count);
  if (tensor.type === "f32") {
    heap.u8(ptr, expected).set(tensor.bytes);
  } else {
    heap.scratch((inner) => {
      const bitsPtr = putBytes(heap, inner, tensor.bytes);
      if (tensor.type === "f16") kernels.widenF16(ptr, bitsPtr, count);
      else kernels.widenBf16(ptr, bitsPtr, count);
    });
  }
  const bad = kernels.countNonFinite(ptr, count);
  if (bad) throw new RangeError(`${name}: expected finite elements, got ${bad} of NaN or infinity`);
  return ptr;
}

export function putBytes(heap: Heap, frame: Frame, bytes: Uint8Array): number {
  const ptr = frame.reserve(bytes.length);
  heap.u8(ptr, bytes.length).set(bytes);
  return ptr;
}

/** Address of a copy of f32 values. */
export function putF32(heap: Heap, frame: Frame, values: ArrayLike<number>): number {
  const ptr = frame.reserve(4 * values.length);
  heap.f32(ptr, values.length).set(values);
  return ptr;
}

/** Little-endian bytes of `count` f32 elements at `ptr` in the given type. */
export function storeTensor(runtime: Runtime, ptr: number, count: number, type: ElementType): Uint8Array {
  const { kernels, heap } = runtime;
  if (type === "f32") return heap.u8(ptr, 4 * count).slice();
  return heap.scratch((frame) => {
    const bitsPtr = frame.reserve(2 * count);
    if (type === "f16") kernels.narrowF16(bitsPtr, ptr, count);
    else narrowBf16(heap, bitsPtr, ptr, count);
    return heap.u8(bitsPtr, 2 * count).slice();
  });
}

/** Nearest even; the values are finite. */
function narrowBf16(heap: Heap, bitsPtr: number, ptr: number, count: number): void {
  const values = heap.u32(ptr, count);
  const bits = heap.u16(bitsPtr, count);
  for (let i = 0; i < count; i++) bits[i] = (values[i] + 0x7fff + ((values[i] >>> 16) & 1)) >>> 16;
}

/** First `head` bytes and last `tail` bytes of every head: sinks and recent tokens. */
export function endsOfHeads(bytes: Uint8Array, heads: number, head: number, tail: number): Uint8Array {
  const headBytes = bytes.length / heads;
  const out = new Uint8Array(heads * (head + tail));
  for (let h = 0; h < heads; h++) {
    const one = bytes.subarray(h * headBytes, (h + 1) * headBytes);
    out.set(one.subarray(0, head), h * (head + tail));
    out.set(one.subarray(headBytes - tail), h * (head + tail) + head);
  }
  return out;
}
