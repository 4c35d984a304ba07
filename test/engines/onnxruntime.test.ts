/** Tensors of onnxruntime: what becomes a cache, what comes back, and every cache that is refused. */
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { compress } from "../../src/codec/compress.ts";
import type { CacheSource } from "../../src/codec/source.ts";
import { type EngineTensor, fromTensors, type TensorFacts, toTensors } from "../../src/engines/onnxruntime.ts";
import { DisposedError, UnsupportedError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { GpuTensor, PlainTensor, presentOf, WrappedTensor } from "../support/engine-tensors.ts";
import { failureOf } from "../support/failure.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { elementsOf, relativeError, TinyCache } from "../support/tiny-cache.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create();
});

const factsOf = (cache: TinyCache): TensorFacts => ({ rotary: cache.rotary, model: cache.model });

/** All that a source gives. */
async function everything(source: CacheSource) {
  const layers = source.layerNumbers.map(async (_, i) => [await source.key(i), await source.value(i)]);
  const { geometry, rotary, tokenCount, layerNumbers, model, tokens } = source;
  return { geometry, rotary, tokenCount, layerNumbers, model, tokens, layers: await Promise.all(layers) };
}

describe("from tensors", () => {
  it.each(["f32", "f16"] as const)("a source has the bytes of the engine: %s", async (type) => {
    const cache = new TinyCache({ type });
    for (const prefix of ["present", "past_key_values"]) {
      const tokens = BigInt64Array.from(cache.tokens!, BigInt);
      const { source, others } = fromTensors(presentOf(cache, prefix), { ...factsOf(cache), tokens });
      expect(await everything(source)).toEqual(await everything(cache));
      expect(others).toEqual({});
    }
  });

  it("takes layers in the order of their numbers, and what is no key or value stands beside", async () => {
    const cache = new TinyCache({ layers: 12 });
    const tensors: Record<string, EngineTensor> = Object.fromEntries(Object.entries(presentOf(cache)).reverse());
    const state = new PlainTensor("float32", new Float32Array(8), [1, 4, 2]);
    const beside = { logits: state, "present_conv.0": state, "past_ssm.3": state, "past_recurrent.1": state };
    const { source, others } = fromTensors({ ...beside, ...tensors }, factsOf(cache));
    expect(source.layerNumbers).toEqual(cache.layerNumbers);
    expect((await source.key(11)).bytes).toEqual(cache.layers[11].key.bytes);
    expect(others).toEqual(beside);
    expect(others["past_ssm.3"]).toBe(state);
  });

  it("reads tensors on a GPU, wrapped or not, gives their buffers back, and may be asked again", async () => {
    const cache = new TinyCache({ type: "f32" });
    const gpu = Object.entries(presentOf(cache)).map(([name, tensor]) => [name, new GpuTensor(tensor)] as const);
    const wrapped = gpu.map(([name, tensor]) => [name, new WrappedTensor(tensor)] as const);
    for (const tensors of [Object.fromEntries(gpu), Object.fromEntries(wrapped)]) {
      const { source } = fromTensors<EngineTensor>(tensors, factsOf(cache));
      for (const _ of [1, 2]) expect((await source.value(1)).bytes).toEqual(cache.layers[1].value.bytes);
    }
    expect(gpu[3][1].released).toBe(true);
    expect(gpu[0][1].released).toBe(false);
  });

  it("reads arrays that begin inside a buffer, and Float16Array by its bytes", async () => {
    const cache = new TinyCache({ layers: 1 });
    const tensors = presentOf(cache);
    const { bytes } = cache.layers[0].key;
    const wide = new Uint8Array(bytes.length + 64);
    wide.set(bytes, 32);
    class Float16Array extends Uint16Array {}
    tensors["present.1.key"] = new PlainTensor(
      "float16",
      new Float16Array(wide.buffer, 32, bytes.length / 2),
      tensors["present.1.key"].dims,
    );
    expect((await fromTensors(tensors, factsOf(cache)).source.key(0)).bytes).toEqual(bytes);
  });
});

describe("refused:", () => {
  const cache = new TinyCache({ layers: 1, tokens: 5 });
  /** The error of reading the key of tensors that `change` has changed. */
  async function refusal(change: (tensors: Record<string, EngineTensor>) => void, facts: Partial<TensorFacts> = {}) {
    const tensors: Record<string, EngineTensor> = presentOf(cache);
    change(tensors);
    return failureOf(() => fromTensors(tensors, { ...factsOf(cache), ...facts }).source.key(0));
  }
  const like = (dims: number[], type = "float16", data: ArrayBufferView = new Uint16Array(0)) =>
    new PlainTensor(type, data, dims);
  const both = (tensor: EngineTensor) => (tensors: Record<string, EngineTensor>) => {
    tensors["present.1.key"] = tensors["present.1.value"] = tensor;
  };
  const add = (name: string) => (tensors: Record<string, EngineTensor>) => {
    tensors[name] = like([1, 2, 5, 32]);
  };

  it.each<[string, (tensors: Record<string, EngineTensor>) => void, RegExp]>([
    ["a batch", both(like([2, 2, 5, 32])), /layer 1 key: expected a batch of 1, got 2 in \[2, 2, 5, 32\]/],
    [
      "three dimensions",
      both(like([1, 5, 576])),
      /expected \[1, kvHeads, tokens, headDim\], got \[1, 5, 576\]; .*latent/,
    ],
    ["a multi-query cache", add("past_key_values.0.key_value"), /past_key_values\.0\.key_value: .*multi-query/],
    ["an encoder-decoder", add("present.0.encoder.key"), /encoder-decoder/],
    ["its other half", add("past_key_values.0.decoder.value"), /encoder-decoder/],
    ["a latent cache by name", add("past_compressor.0"), /latent/],
    ["scales of a quantized cache", add("present.1.key_scale"), /quantized/],
    ["uint8", both(like([1, 2, 5, 16], "uint8")), /float32 or float16, got "uint8" \(a quantized cache\)/],
    ["uint32", both(like([1, 2, 5, 4], "uint32")), /got "uint32" \(a quantized cache\)/],
    ["float64", both(like([1, 2, 5, 32], "float64")), /got "float64"$/],
    ["heads too wide", both(like([1, 1, 5, 576])), /geometry\.headDim: expected an integer from 32 to 256, got 576/],
    ["values of another width", (t) => (t["present.1.value"] = like([1, 2, 5, 64])), /layer 1 value: .*latent caches/],
  ])("%s", async (_, change, message) => {
    const error = await refusal(change);
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toMatch(message);
  });

  it.each<[string, (tensors: Record<string, EngineTensor>) => void, RegExp]>([
    [
      "no cache",
      (t) => {
        for (const name of Object.keys(t)) delete t[name];
      },
      /expected present\.N\.key or past_key_values\.N\.key, got 0 tensors, none of that name/,
    ],
    ["a key alone", (t) => delete t["present.1.value"], /layer 1: expected a key and a value, got a key only/],
    ["a value alone", (t) => delete t["present.1.key"], /got a value only/],
    ["a layer twice", add("past_key_values.1.key"), /expected one key of layer 1, got two/],
    [
      "no tokens",
      both(like([1, 2, 0, 32])),
      /layer 1 key: expected at least one token, got an empty cache \[1, 2, 0, 32\]/,
    ],
    ["two types", (t) => (t["present.1.value"] = like([1, 2, 5, 32], "float32")), /expected f16 .*, got f32/],
    ["too little data", both(like([1, 2, 5, 32])), /layer 1 key: data: expected 640 bytes, got 0/],
  ])("%s (RangeError)", async (_, change, message) => {
    const error = await refusal(change);
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toMatch(message);
  });

  it("layers of different shapes", async () => {
    const tensors: Record<string, EngineTensor> = presentOf(new TinyCache({ tokens: 5 }));
    tensors["present.4.key"] = tensors["present.4.value"] = like([1, 2, 6, 32]);
    const error = await failureOf(() => fromTensors(tensors, factsOf(cache)));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toBe("layer 4 key: expected [1, 2, 5, 32] as in the first layer, got [1, 2, 6, 32]");
  });

  it("data of another kind", async () => {
    for (const data of [new Float32Array(320), new Uint8Array(640), [1, 2], null, 7]) {
      const error = await refusal(both(like([1, 2, 5, 32], "float16", data as ArrayBufferView)));
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toMatch(
        /layer 1 key: data: expected a Float16Array, or a Uint16Array of its bits, got \w+/,
      );
    }
  });

  it("token ids of another count", async () => {
    const error = await refusal(() => {}, { tokens: [1, 2, 3] });
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe("tokens: expected 5 ids, as many as the cache holds, got 3");
  });

  it("disposed tensors, when they are read; other failures stay what they are", async () => {
    const gpu = new GpuTensor(presentOf(cache)["present.1.key"]);
    gpu.dispose();
    const error = await refusal(both(gpu));
    expect(error).toBeInstanceOf(DisposedError);
    expect(error.message).toBe("layer 1 key: expected a tensor with data, got one disposed before");
    const lost = new Error("device lost");
    expect(await refusal(both({ type: "float16", dims: [1, 2, 5, 32], getData: () => Promise.reject(lost) }))).toBe(
      lost,
    );
  });
});

describe("to tensors", () => {
  const { Float16Array: given } = globalThis as { Float16Array?: unknown };
  afterEach(() => {
    Object.assign(globalThis, { Float16Array: given });
  });

  it.each(["f32", "f16"] as const)("an exact cache comes back bit for bit: %s", async (type) => {
    const cache = new TinyCache({ type });
    const { source } = fromTensors(presentOf(cache), factsOf(cache));
    const coded = await compress(runtime, source, { sinks: 50, recent: 49 });
    const tensors = toTensors(runtime, coded, { Tensor: PlainTensor });
    expect(Object.keys(tensors)).toEqual(Object.keys(presentOf(cache, "past_key_values")));
    cache.layerNumbers.forEach((number, i) => {
      for (const part of ["key", "value"] as const) {
        const tensor = tensors[`past_key_values.${number}.${part}`];
        expect(tensor).toMatchObject({ type: type === "f32" ? "float32" : "float16", dims: [1, 2, 100, 32] });
        const got = new Uint8Array(tensor.data.buffer);
        // The whole buffer is the tensor's own.
        expect([tensor.data.byteOffset, got.length]).toEqual([0, cache.layers[i][part].bytes.length]);
        const [a, b] = [elementsOf({ type, bytes: got }), elementsOf(cache.layers[i][part])];
        for (const head of [0, 1]) {
          const at = (token: number) => (head * 100 + token) * 32;
          expect(a.subarray(at(0), at(50))).toEqual(b.subarray(at(0), at(50)));
          expect(a.subarray(at(51), at(100))).toEqual(b.subarray(at(51), at(100)));
        }
      }
    });
  });

  it("in another type and under another name", async () => {
    const cache = new TinyCache({ type: "f16", noise: 0.01 });
    const coded = await compress(runtime, cache, { sinks: 2, recent: 2, keyBits: 6, valueBits: 6 });
    const options = { Tensor: PlainTensor, prefix: "present" };
    const [wide, narrow] = (["f32", "f16"] as const).map((type) => toTensors(runtime, coded, { ...options, type }));
    expect(wide["present.1.key"].data).toBeInstanceOf(Float32Array);
    const f16 = new Uint8Array(narrow["present.1.key"].data.buffer);
    const exact = elementsOf(cache.layers[0].key);
    expect(relativeError(elementsOf({ type: "f16", bytes: f16 }), exact)).toBeLessThan(1e-3);
    expect(relativeError(wide["present.1.key"].data as Float32Array, exact)).toBeLessThan(1e-3);
  });

  it("in the array type that the host has for float16, and bf16 as float32", async () => {
    const coded = await compress(runtime, new TinyCache({ type: "f16" }), { sinks: 2, recent: 2 });
    const constructorOf = () =>
      toTensors(runtime, coded, { Tensor: PlainTensor })["past_key_values.1.key"].data.constructor;
    Object.assign(globalThis, { Float16Array: undefined });
    expect(constructorOf()).toBe(Uint16Array);
    class Float16Array extends Uint16Array {}
    Object.assign(globalThis, { Float16Array });
    expect(constructorOf()).toBe(Float16Array);
    const brain = await compress(runtime, new TinyCache({ type: "bf16" }), { sinks: 2, recent: 2 });
    expect(toTensors(runtime, brain, { Tensor: PlainTensor })["past_key_values.1.key"].type).toBe("float32");
  });

  it("needs a class", async () => {
    const coded = await compress(runtime, new TinyCache(), { sinks: 2, recent: 2 });
    expect(await failureOf(() => toTensors(runtime, coded, {} as never))).toBeInstanceOf(TypeError);
  });
});
