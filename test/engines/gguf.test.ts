/** GGUF metadata: every type of value, the model that keys describe, damage, and a real file where there is one. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { RandomAccess } from "../../src/archive/random-access.ts";
import { frequenciesOf } from "../../src/codec/rotary.ts";
import { openGguf } from "../../src/engines/gguf.ts";
import { readGgufModel } from "../../src/engines/gguf-model.ts";
import { rotaryOfConfig } from "../../src/engines/rope-config.ts";
import { FormatError, UnsupportedError } from "../../src/errors.ts";
import { failureOf } from "../support/failure.ts";
import { realGguf } from "../support/real-gguf.ts";
import { f32, ggufBytes, llamaKeys, type Typed, text, u32 } from "../support/tiny-gguf.ts";

describe("a file", () => {
  it.each([2, 3])("of version %i gives its keys and tensors", async (version) => {
    const keys: Record<string, Typed> = {
      ...{ a: { type: "u8", value: 255 }, b: { type: "i8", value: -128 }, c: { type: "u16", value: 65535 } },
      ...{ d: { type: "i16", value: -2 }, e: u32(2 ** 32 - 1), f: { type: "i32", value: -1 }, g: f32(0.5) },
      ...{ h: { type: "bool", value: 1 }, i: text("ünï"), j: { type: "u64", value: 2n ** 64n - 1n } },
      ...{ k: { type: "i64", value: -5n }, l: { type: "f64", value: Math.PI } },
      m: { type: "array", of: "u16", value: [1, 2, 3] },
      n: { type: "array", of: "string", value: ["x", ""] },
      o: { type: "array", of: "u8", value: new Array(5000).fill(7) },
      p: { type: "array", of: "f32", value: [] },
    };
    const file = await openGguf(ggufBytes(keys, { first: [1, 2, 3], second: [4] }, { version }));
    expect(file.version).toBe(version);
    expect(Object.fromEntries(file.values)).toEqual({
      ...{ a: 255, b: -128, c: 65535, d: -2, e: 2 ** 32 - 1, f: -1, g: 0.5, h: true, i: "ünï", j: 2n ** 64n - 1n },
      ...{ k: -5, l: Math.PI, m: { count: 3, numbers: [1, 2, 3] }, n: { count: 2 }, o: { count: 5000 } },
      p: { count: 0, numbers: [] },
    });
    const { dimensions, type, offset } = file.tensors.get("second")!;
    expect([dimensions, type, offset % 32]).toEqual([[1], 0, 0]);
    expect([...new Float32Array((await file.read(offset, 4)).buffer)]).toEqual([4]);
    await file.close();
  });

  it("is read a window at a time, through strings over the edge of one", async () => {
    const words = Array.from({ length: 30 }, (_, i) => "w".repeat(50_000 + i));
    const bytes = ggufBytes({
      long: text("s".repeat(1 << 20)),
      t: { type: "array", of: "string", value: words },
      z: u32(9),
    });
    let most = 0;
    const source: RandomAccess = {
      size: bytes.length,
      async read(offset, length) {
        most = Math.max(most, length);
        return bytes.slice(offset, offset + length);
      },
    };
    const { values } = await openGguf(source);
    expect(values.get("z")).toBe(9);
    expect(values.get("t")).toEqual({ count: 30 });
    expect(most).toBe(1 << 20);
  });

  it("is closed, also where it is unsound", async () => {
    for (const bytes of [ggufBytes({}), new Uint8Array(3)]) {
      let closings = 0;
      const close = async () => void closings++;
      const read = async (at: number, length: number) => bytes.slice(at, at + length);
      await openGguf({ size: bytes.length, read, close }).then(
        (file) => file.close(),
        () => {},
      );
      expect(closings).toBe(1);
    }
  });
});

describe("a model", () => {
  const modelOf = (
    more?: Record<string, Typed | undefined>,
    architecture?: string,
    tensors?: Record<string, number[]>,
  ) => readGgufModel(ggufBytes(llamaKeys(more, architecture), tensors));

  it("has the geometry, the rotary embedding and the name that keys say", async () => {
    expect(await modelOf()).toEqual({
      architecture: "llama",
      geometry: { layerCount: 2, kvHeads: 2, headDim: 32 },
      rotary: { layout: "interleaved", frequencies: frequenciesOf(10000, 16) },
      model: "Tiny#llama/2/4/2/32/128/3",
    });
    const bare = {
      "rope.freq_base": undefined,
      "rope.dimension_count": undefined,
      "attention.head_count_kv": undefined,
    };
    const { geometry, rotary } = await modelOf(bare);
    expect([geometry.kvHeads, rotary.frequencies]).toEqual([4, frequenciesOf(10000, 16)]);
  });

  it("pairs halves where llama.cpp does, and may turn a part of each head", async () => {
    const more = {
      "attention.key_length": u32(64),
      "attention.value_length": u32(64),
      "rope.dimension_count": u32(16),
    };
    const { geometry, rotary } = await modelOf(more, "qwen3");
    expect(geometry.headDim).toBe(64);
    expect(rotary).toEqual({ layout: "half-split", frequencies: frequenciesOf(10000, 8) });
  });

  it("takes one number for each layer, where all are the same", async () => {
    const heads: Typed = { type: "array", of: "u32", value: [2, 2] };
    expect((await modelOf({ "attention.head_count_kv": heads })).geometry.kvHeads).toBe(2);
  });

  it("scales frequencies as transformers does", async () => {
    const scaling = { "rope.scaling.type": text("linear"), "rope.scaling.factor": f32(4) };
    const plain = frequenciesOf(10000, 16);
    const linear = plain.map((f) => f / 4);
    expect((await modelOf(scaling)).rotary.frequencies).toEqual(linear);
    expect((await modelOf({ "rope.scale_linear": f32(4) })).rotary.frequencies).toEqual(linear);
    expect((await modelOf({ ...scaling, "rope.scaling.type": text("none") })).rotary.frequencies).toEqual(plain);
    const yarn = { ...scaling, "rope.scaling.type": text("yarn"), "rope.scaling.original_context_length": u32(512) };
    const config = {
      ...{ model_type: "llama", hidden_size: 128, num_hidden_layers: 2, num_attention_heads: 4, rope_theta: 10000 },
      rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 512 },
    };
    expect((await modelOf(yarn)).rotary.frequencies).toEqual(rotaryOfConfig(config).frequencies);
  });

  it("divides by rope_freqs.weight, the form in which llama3 scaling comes", async () => {
    const factors = Array.from({ length: 16 }, (_, i) => 1 + i / 2);
    const { rotary } = await modelOf({}, "llama", { other: [1, 2], "rope_freqs.weight": factors });
    expect(rotary.frequencies).toEqual(frequenciesOf(10000, 16).map((f, i) => f / factors[i]));
  });

  it.each<[string, Record<string, Typed | undefined>, string, RegExp]>([
    ["architectures not known", {}, "llama9", /general\.architecture: .*got "llama9"/],
    ["sliding windows", { "attention.sliding_window": u32(512) }, "llama", /sliding_window: expected no sliding-window/],
    ["latent caches", { "attention.kv_lora_rank": u32(512) }, "deepseek", /deepseek\.attention\.kv_lora_rank: .*MLA/],
    ["recurrent layers", { "ssm.state_size": u32(16) }, "llama", /recurrent/],
    ["three positions", { "rope.dimension_sections": { type: "array", of: "i32", value: [1] } }, "qwen2", /one position/],
    ["values of another width", { "attention.value_length": u32(64) }, "llama", /value_length: expected 32 .*got 64/],
    ["heads that differ", { "attention.head_count_kv": { type: "array", of: "u32", value: [2, 1] } }, "llama", /same in all/],
    ["other scalings", { "rope.scaling.type": text("longrope"), "rope.scaling.factor": f32(2) }, "phi3", /got "longrope"/],
    ["a yarn of their own", { "rope.scaling.type": text("yarn"), "rope.scaling.factor": f32(2),
      "rope.scaling.yarn_ext_factor": f32(0) }, "llama", /yarn_ext_factor: expected 1, got 0/],
    ["heads too wide", { "attention.key_length": u32(512), "attention.value_length": u32(512) }, "llama", /headDim/],
  ])("refuses %s", async (_, more, architecture, message) => {
    const error = await failureOf(() => modelOf(more, architecture));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toMatch(message);
  }); // biome-ignore format: a table

  it.each<[string, Record<string, Typed | undefined>, RegExp]>([
    ["layers", { block_count: undefined }, /llama\.block_count: expected a number, got nothing/],
    ["heads", { "attention.head_count": undefined }, /llama\.attention\.head_count: expected a number/],
    ["sense", { "attention.head_count": u32(0) }, /expected an integer above 0, got 0/],
    ["numbers", { embedding_length: text("128") }, /llama\.embedding_length: expected a number, got "128"/],
    ["a theta in range", { "rope.freq_base": f32(0.5) }, /rope\.freq_base: theta: expected a number from 1/],
    ["a finite theta", { "rope.freq_base": f32(Number.NaN) }, /rope\.freq_base: expected a number, got NaN/],
    [
      "fewer rotary dimensions",
      { "rope.dimension_count": u32(64) },
      /rope\.dimension_count: dimensions: .* 2 to 32, got 64/,
    ],
    ["a factor in range", { "rope.scaling.factor": f32(-1) }, /rope\.scaling\.factor: factor/],
    ["a type in words", { "rope.scaling.type": u32(1) }, /rope\.scaling\.type: expected a string, got 1/],
  ])("needs %s (FormatError)", async (_, more, message) => {
    const error = await failureOf(() => modelOf(more));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(message);
  });

  it("refuses rope_freqs of another size, type or sign, and two sets of them", async () => {
    const refusal = (tensors: Record<string, number[]>, type?: number) =>
      failureOf(() => readGgufModel(ggufBytes(llamaKeys(), tensors, type === undefined ? {} : { type })));
    const ones = new Array<number>(16).fill(1);
    expect((await refusal({ "rope_freqs.weight": [1, 2] })).message).toMatch(
      /expected f32 \(type 0\) \[16\], got type 0 \[2\]/,
    );
    expect(await refusal({ "rope_freqs.weight": ones }, 1)).toBeInstanceOf(FormatError);
    expect((await refusal({ "rope_freqs.weight": [...ones.slice(1), 0] })).message).toMatch(/\[15\]: .* got 0/);
    expect(await refusal({ "rope_factors_long.weight": ones })).toBeInstanceOf(UnsupportedError);
  });
});

describe("damage", () => {
  const sound = ggufBytes(llamaKeys(), { "rope_freqs.weight": new Array(16).fill(2) });
  const at = (offset: number, ...bytes: number[]) => {
    const copy = sound.slice();
    copy.set(bytes, offset);
    return copy;
  };

  it("cut short anywhere is a FormatError that says where", async () => {
    for (let length = 0; length < sound.length; length++) {
      const error = await failureOf(() => readGgufModel(sound.subarray(0, length)));
      expect(error, `${length} bytes`).toBeInstanceOf(FormatError);
      expect((error as FormatError).offsetBytes).toBeLessThanOrEqual(length);
    }
  });

  it("any byte changed is an error of ours, or another sound file", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(sound.length - 1), fc.nat(255), async (offset, byte) => {
        const error = await readGgufModel(at(offset, byte)).then(
          () => undefined,
          (cause: unknown) => cause,
        );
        if (error) expect([FormatError, UnsupportedError]).toContain((error as Error).constructor);
      }),
      { numRuns: 500 },
    );
  });

  it.each<[string, Uint8Array, RegExp, number]>([
    ["magic", at(0, 0x47, 0x47, 0x4d, 0x4c), /magic: expected "GGUF", got "0x4c4d4747"/, 0],
    ["version 1", at(4, 1), /version: expected 2 or 3, got 1/, 4],
    ["another byte order", at(4, 0, 0, 0, 3), /got "a big-endian file"/, 4],
    [
      "too many tensors",
      at(8, 255, 255, 255, 255, 255),
      /count of tensors: expected at most \d+, got 1099511627775/,
      8,
    ],
    ["too many keys", at(16, 255, 255), /count of keys: expected at most \d+, got 65535/, 16],
    ["a key too long", at(24, 255, 255, 255, 255), /key 0: length: expected at most 67108864/, 24],
    ["a key that is not UTF-8", at(32, 0xff), /key 0: expected UTF-8/, 32],
    ["a type not known", at(52, 99), /general\.architecture: type: expected 0 to 12, got 99/, 52],
  ])("%s", async (_, bytes, message, offset) => {
    const error = await failureOf(() => readGgufModel(bytes));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(message);
    expect((error as FormatError).offsetBytes).toBe(offset);
  });

  it("names twice, arrays in arrays, an alignment of none", async () => {
    const twice = ggufBytes({ aa: u32(1), ab: u32(2) });
    twice[24 + 8 + 2 + 8 + 8 + 1] = 0x61;
    expect((await failureOf(() => openGguf(twice))).message).toMatch(/key 1: expected a name that is new, got "aa"/);
    const tensors = ggufBytes({}, { ta: [1], tb: [2] });
    tensors[24 + 8 + 2 + 24 + 8 + 1] = 0x61;
    expect((await failureOf(() => openGguf(tensors))).message).toMatch(
      /tensor 1: expected a name that is new, got "ta"/,
    );
    const nested = ggufBytes({ a: { type: "array", of: "array" as never, value: [] } });
    expect((await failureOf(() => openGguf(nested))).message).toMatch(/no array in an array/);
    const aligned = ggufBytes({ "general.alignment": u32(0) });
    expect((await failureOf(() => openGguf(aligned))).message).toMatch(
      /general\.alignment: expected an integer from 1/,
    );
    const nameless = ggufBytes({ a: u32(1) });
    expect((await failureOf(() => readGgufModel(nameless))).message).toMatch(
      /general\.architecture: expected a string/,
    );
  });
});

it.skipIf(!realGguf)("the real SmolLM2", async () => {
  const { architecture, geometry, rotary, model } = await readGgufModel(realGguf!);
  expect(architecture).toBe("llama");
  expect(geometry).toEqual({ layerCount: 30, kvHeads: 3, headDim: 64 });
  expect(rotary).toEqual({ layout: "interleaved", frequencies: frequenciesOf(100000, 32) });
  expect(model).toMatch(/#llama\/30\/9\/3\/64\/576\/49152$/);
});
