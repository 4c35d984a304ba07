/** Caches of Transformers.js: there and back through codes and archives, with the model that they belong to. */
import { beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { compress } from "../../src/codec/compress.ts";
import { compressCache, modelOf, restoreCache } from "../../src/engines/transformers-js.ts";
import { FormatError, MismatchError, UnsupportedError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { GpuTensor, PlainTensor, presentOf, WrappedTensor } from "../support/engine-tensors.ts";
import { failureOf } from "../support/failure.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache } from "../support/tiny-cache.ts";

/** As the library's: entries become its own fields, and must be tensors of its own class. */
class DynamicCache {
  constructor(entries: Record<string, PlainTensor>) {
    for (const [name, tensor] of Object.entries(entries)) {
      if (!(tensor instanceof PlainTensor)) throw new TypeError(`Expected a Tensor for key "${name}"`);
    }
    Object.assign(this, entries);
  }
  get_seq_length(): number {
    return (Object.values(this)[0] as PlainTensor).dims.at(-2)!;
  }
}

const CONFIG = {
  ...{ model_type: "llama", hidden_size: 128, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2 },
  ...{ rope_theta: 10000, vocab_size: 100 },
};
const CLASSES = { Tensor: PlainTensor, DynamicCache };
const OPTIONS = { sinks: 4, recent: 8, keyBits: 6, valueBits: 6 };

const cacheOf = (tiny: TinyCache) => new DynamicCache(presentOf(tiny, "past_key_values"));

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create();
});

it("a cache gives the codes of its tensors, with the config's rotary embedding", async () => {
  const tiny = new TinyCache({ type: "f32" });
  const { coded, others } = await compressCache(runtime, cacheOf(tiny), {
    ...{ config: CONFIG, tokens: tiny.tokens!, options: OPTIONS },
  });
  expect(coded).toEqual({ ...(await compress(runtime, tiny, OPTIONS)), model: modelOf(CONFIG) });
  expect(others).toEqual({});
});

it("an archive gives a cache for the next run", async () => {
  const tiny = new TinyCache({ type: "f16" });
  const given = { config: CONFIG, name: "tiny", options: OPTIONS };
  const { coded } = await compressCache(runtime, cacheOf(tiny), given);
  const archive = joinChunks(encodeArchive(coded));
  const cache = restoreCache(runtime, archive, { ...CLASSES, config: CONFIG, name: "tiny" });
  expect(cache).toBeInstanceOf(DynamicCache);
  expect(cache.get_seq_length()).toBe(100);
  expect(cache).toEqual(restoreCache(runtime, coded, CLASSES));
  // Coded again, sinks and recent tokens come back as they were.
  const again = await compressCache(runtime, cache, given);
  expect(again.coded.layers[1].exactKeys).toEqual(coded.layers[1].exactKeys);
});

it("state of a hybrid model passes through untouched, and layers keep their numbers", async () => {
  const tiny = new TinyCache({ type: "f32" });
  const conv = new PlainTensor("float32", new Float32Array(6), [1, 2, 3]);
  const cache = new DynamicCache({ "past_conv.0": conv, ...presentOf(tiny, "past_key_values") });
  const { coded, others } = await compressCache<PlainTensor>(runtime, cache, { config: CONFIG, options: OPTIONS });
  expect(others).toEqual({ "past_conv.0": conv });
  const restored = restoreCache(runtime, coded, { ...CLASSES, others }) as unknown as Record<string, PlainTensor>;
  expect(restored["past_conv.0"]).toBe(conv);
  expect(Object.keys(restored).sort()).toEqual(Object.keys(cache).sort());
});

it("tensors on a GPU are read through ort_tensor", async () => {
  const tiny = new TinyCache({ type: "f16" });
  const gpu = Object.fromEntries(
    Object.entries(presentOf(tiny, "past_key_values")).map(([name, t]) => [name, new WrappedTensor(new GpuTensor(t))]),
  );
  const onGpu = await compressCache(runtime, gpu, { config: CONFIG, options: OPTIONS });
  const onCpu = await compressCache(runtime, cacheOf(tiny), { config: CONFIG, options: OPTIONS });
  expect(onGpu.coded).toEqual(onCpu.coded);
});

it("progress is told, and a signal stops", async () => {
  const phases: string[] = [];
  const given = { config: CONFIG, options: OPTIONS };
  await compressCache(runtime, cacheOf(new TinyCache()), { ...given, onProgress: ({ phase }) => phases.push(phase) });
  expect(new Set(phases)).toEqual(new Set(["analyse keys", "encode keys", "encode values"]));
  const signal = AbortSignal.abort(new Error("enough"));
  expect((await failureOf(() => compressCache(runtime, cacheOf(new TinyCache()), { ...given, signal }))).message).toBe(
    "enough",
  );
});

describe("another model is refused", () => {
  it.each<[string, object, string | undefined]>([
    ["by name", CONFIG, "other"],
    ["without a name", CONFIG, undefined],
    ["by type", { ...CONFIG, model_type: "qwen2" }, "tiny"],
    ["by vocabulary", { ...CONFIG, vocab_size: 101 }, "tiny"],
    ["by layers", { ...CONFIG, num_hidden_layers: 3 }, "tiny"],
    ["by heads", { ...CONFIG, num_key_value_heads: 4 }, "tiny"],
    ["by theta", { ...CONFIG, rope_theta: 20000 }, "tiny"],
  ])("%s", async (_, config, name) => {
    const given = { config: CONFIG, name: "tiny", options: OPTIONS };
    const { coded } = await compressCache(runtime, cacheOf(new TinyCache()), given);
    const error = await failureOf(() =>
      restoreCache(runtime, coded, { ...CLASSES, config, ...(name !== undefined && { name }) }),
    );
    expect(error).toBeInstanceOf(MismatchError);
    expect(error.message).toMatch(/model fingerprint: expected \w{16}, got \w{16} \(model "tiny#llama\/2\/4\/2\/32/);
  });

  it("where a cache is compressed under the config of another", async () => {
    const config = { ...CONFIG, num_key_value_heads: 4 };
    const error = await failureOf(() => compressCache(runtime, cacheOf(new TinyCache()), { config }));
    expect(error).toBeInstanceOf(MismatchError);
    expect(error.message).toBe("cache: expected 4 kv heads of 32 as config has, got 2 of 32");
  });
});

it("bad input is refused", async () => {
  const given = { config: CONFIG, options: OPTIONS };
  const refusal = (cache: unknown) => failureOf(() => compressCache(runtime, cache as object, given));
  for (const cache of [undefined, null, 7]) expect(await refusal(cache)).toBeInstanceOf(TypeError);
  expect((await refusal({ a: 1 })).message).toBe('cache: expected tensors, got 1 in "a"');
  expect(await refusal(new DynamicCache({}))).toBeInstanceOf(RangeError);
  const batch = new PlainTensor("float32", new Float32Array(0), [2, 2, 100, 32]);
  expect(await refusal({ "past_key_values.0.key": batch, "past_key_values.0.value": batch })).toBeInstanceOf(
    UnsupportedError,
  );
  expect(await failureOf(() => restoreCache(runtime, new Uint8Array(100), CLASSES))).toBeInstanceOf(FormatError);
  const { coded } = await compressCache(runtime, cacheOf(new TinyCache()), given);
  expect(await failureOf(() => restoreCache(runtime, coded, {} as never))).toBeInstanceOf(TypeError);
});
