import { beforeAll, describe, expect, it } from "vitest";
import { fromHalf, toHalf } from "../../src/codec/half.ts";
import { ELEMENT_BYTES, type ElementType } from "../../src/codec/source.ts";
import { endsOfHeads, loadTensor, putBytes, putF32, storeTensor } from "../../src/codec/tensors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { noise } from "../support/noise.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, tensorOf } from "../support/tiny-cache.ts";

const TYPES: ElementType[] = ["f32", "f16", "bf16"];

describe.each(PLATFORMS)("tensors on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  const load = (type: ElementType, bytes: Uint8Array, count: number): Float32Array =>
    runtime.heap.scratch((frame) => {
      const ptr = loadTensor(runtime, frame, "layer 3 key", { type, bytes }, count);
      return runtime.heap.f32(ptr, count).slice();
    });
  const store = (values: Float32Array, type: ElementType): Uint8Array =>
    runtime.heap.scratch((frame) => storeTensor(runtime, putF32(runtime.heap, frame, values), values.length, type));

  it.each(TYPES)("of %s are read as they are and stored the same", (type) => {
    for (const count of [0, 1, 7, 64, 1001]) {
      const tensor = tensorOf(type, noise(count, 5));
      const values = load(type, tensor.bytes, count);
      expect(values).toEqual(elementsOf(tensor));
      expect(store(values, type)).toEqual(tensor.bytes);
    }
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("from any place in a buffer are read", () => {
    const { bytes } = tensorOf("f32", noise(9, 5));
    const moved = new Uint8Array(40);
    moved.set(bytes, 3);
    expect(load("f32", moved.subarray(3, 39), 9)).toEqual(noise(9, 5));
  });

  it.each(TYPES)("of %s of another size are refused", (type) => {
    const size = ELEMENT_BYTES[type];
    for (const bytes of [0, 5 * size - 1, 5 * size + 1]) {
      expect(() => load(type, new Uint8Array(bytes), 5)).toThrow(
        new RangeError(`layer 3 key: expected ${5 * size} bytes (5 ${type}), got ${bytes}`),
      );
    }
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it.each(TYPES)("of %s with NaN or infinity are refused with how many there are", (type) => {
    const values = noise(37, 6);
    values.set([Number.NaN, Infinity, -Infinity], 30);
    expect(() => load(type, tensorOf(type, values).bytes, 37)).toThrow(
      new RangeError("layer 3 key: expected finite elements, got 3 of NaN or infinity"),
    );
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("become bf16 by the nearest, ties to even", () => {
    const bits = [
      0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0xbf818000, 0x00008000, 0x00018000, 0x80000000,
    ];
    const values = new Float32Array(Uint32Array.from(bits).buffer);
    const stored = new Uint16Array(store(values, "bf16").buffer);
    expect(Array.from(stored)).toEqual([0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x3f80, 0xbf82, 0, 2, 0x8000]);
  });

  it("become f16 by the nearest", () => {
    const values = noise(1000, 8).map((x) => 70 * x);
    expect(new Uint16Array(store(values, "f16").buffer)).toEqual(Uint16Array.from(values, toHalf));
    expect(fromHalf(new Uint16Array(store(Float32Array.of(1 / 3), "f16").buffer)[0])).toBeCloseTo(1 / 3, 3);
  });

  it("copied in are copies", () => {
    runtime.heap.scratch((frame) => {
      const bytes = Uint8Array.of(1, 2, 3);
      const ptr = putBytes(runtime.heap, frame, bytes);
      bytes.fill(0);
      const numbers = putF32(runtime.heap, frame, [0.5, -2]);
      expect(runtime.heap.u8(ptr, 3)).toEqual(Uint8Array.of(1, 2, 3));
      expect(runtime.heap.f32(numbers, 2)).toEqual(Float32Array.of(0.5, -2));
    });
  });
});

describe("ends of heads", () => {
  const bytes = Uint8Array.from({ length: 12 }, (_, i) => i);
  it.each<[number, number, number, number[]]>([
    [2, 1, 2, [0, 4, 5, 6, 10, 11]],
    [2, 0, 0, []],
    [3, 0, 1, [3, 7, 11]],
    [3, 2, 0, [0, 1, 4, 5, 8, 9]],
    [1, 6, 6, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
  ])("of %i heads, %i bytes at the start and %i at the end", (heads, head, tail, expected) => {
    expect(Array.from(endsOfHeads(bytes, heads, head, tail))).toEqual(expected);
  });
});
