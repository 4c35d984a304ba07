/** Dumps of caches: what they give, and every way in which one can be wrong. */
import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { compressKeys, compressValues } from "../../src/codec/compress.ts";
import { DEFAULT_OPTIONS } from "../../src/codec/options.ts";
import { frequenciesOf } from "../../src/codec/rotary.ts";
import { type DumpOptions, openDump } from "../../src/engines/dump.ts";
import { type Dtype, writeSafetensors } from "../../src/engines/safetensors.ts";
import { DisposedError, FormatError, UnsupportedError } from "../../src/errors.ts";
import { testDirectory } from "../support/directory.ts";
import { failureOf } from "../support/failure.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyDump } from "../support/tiny-dump.ts";

const pathOf = testDirectory();

const i32 = (...values: number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer);

/** The first `tokens` of (heads, held, 32) elements of two bytes, by the definition of the shape. */
function firstTokens(bytes: Uint8Array, heads: number, held: number, tokens: number): Uint8Array {
  const out: number[] = [];
  for (let h = 0; h < heads; h++) {
    for (let i = 0; i < tokens * 64; i++) out.push(bytes[h * held * 64 + i]);
  }
  return Uint8Array.from(out);
}

describe("a dump", () => {
  it("gives what was written, from a path, a Blob and bytes", async () => {
    const tiny = new TinyDump({ layers: [0, 15] });
    tiny.metadata = {
      ...tiny.metadata,
      ...{ text: "Once", layers: "30", stored_layers: "0, 15", kv_heads: "2", query_heads: "4", head_dim: "32" },
      ...{ context_tokens: "6", continuation_tokens: "0", query_first_token: "3", rope_applied: "true" },
    };
    tiny.tensors.tokens = { dtype: "I32", shape: [6], bytes: i32(1, 2, 3, -4, 5, 2 ** 31 - 1) };
    const path = pathOf("tiny.safetensors");
    const tensors = Object.entries(tiny.tensors).map(([name, { dtype, shape }]) => ({
      name,
      dtype,
      shape,
      read: async () => tiny.data(name),
    }));
    await writeSafetensors(path, tiny.metadata, tensors);
    for (const source of [path, new Blob([tiny.bytes()]), tiny.bytes()]) {
      const dump = await openDump(source);
      expect(dump).toMatchObject({ model: "tiny", text: "Once", layerNumbers: [0, 15], tokenCount: 6, heldTokens: 6 });
      expect(dump.geometry).toEqual({ layerCount: 2, kvHeads: 2, headDim: 32 });
      expect(dump.rotary).toEqual({ layout: "half-split", frequencies: frequenciesOf(10000, 16) });
      expect(dump.tokens).toEqual(Int32Array.of(1, 2, 3, -4, 5, 2 ** 31 - 1));
      for (const [layer, n] of [0, 15].entries()) {
        expect(await dump.key(layer)).toEqual({ type: "f16", bytes: tiny.data(`layers.${n}.key`) });
        expect(await dump.value(layer)).toEqual({ type: "f16", bytes: tiny.data(`layers.${n}.value`) });
        const query = { type: "f16", firstToken: 3, count: 3, queryHeads: 4, bytes: tiny.data(`layers.${n}.query`) };
        expect(await dump.query(layer)).toEqual(query);
        expect(await dump.queryTensor(layer)).toEqual(query);
      }
      await dump.close();
    }
  });

  it.each<[Dtype, string]>([
    ["F16", "f16"],
    ["BF16", "bf16"],
    ["F32", "f32"],
  ])("holds %s", async (dtype, type) => {
    const tiny = new TinyDump({ dtype });
    const dump = await openDump(tiny.bytes(), { tokens: 4 });
    const { bytes } = await dump.key(1);
    const tokenBytes = 32 * (type === "f32" ? 4 : 2);
    const all = tiny.data("layers.1.key");
    expect((await dump.key(1)).type).toBe(type);
    expect(bytes).toEqual(
      Uint8Array.of(...all.subarray(0, 4 * tokenBytes), ...all.subarray(6 * tokenBytes, 10 * tokenBytes)),
    );
  });

  it("ends where the context ends, its queries and token ids too; options.tokens goes before", async () => {
    const tiny = new TinyDump();
    tiny.metadata.context_tokens = "4";
    tiny.metadata.continuation_tokens = "2";
    tiny.tensors.tokens = { dtype: "I32", shape: [6], bytes: i32(9, 8, 7, 6, 5, 4) };
    // Queries are those of the last tokens: 3, 4, 5.
    const queriesOf = [
      [undefined, 4, 1],
      [5, 5, 2],
      [6, 6, 3],
      [3, 3, 0],
      [1, 1, 0],
    ] as const;
    for (const [tokens, tokenCount, queryCount] of queriesOf) {
      const dump = await openDump(tiny.bytes(), tokens === undefined ? {} : { tokens });
      expect(dump.tokenCount).toBe(tokenCount);
      expect(dump.heldTokens).toBe(6);
      expect([...dump.tokens!]).toEqual([9, 8, 7, 6, 5, 4].slice(0, tokenCount));
      expect((await dump.key(0)).bytes).toEqual(firstTokens(tiny.data("layers.0.key"), 2, 6, tokenCount));
      expect((await dump.value(1)).bytes).toEqual(firstTokens(tiny.data("layers.1.value"), 2, 6, tokenCount));
      const query = await dump.query(1);
      expect(query?.count ?? 0).toBe(queryCount);
      if (query) expect(query.bytes).toEqual(firstTokens(tiny.data("layers.1.query"), 4, 3, queryCount));
      expect((await dump.queryTensor(1))?.count).toBe(3);
    }
  });

  it("may lack queries, token ids and all metadata but a rotary theta", async () => {
    const tiny = new TinyDump();
    for (const layer of [0, 1]) delete tiny.tensors[`layers.${layer}.query`];
    tiny.metadata = { rope_theta: "1e5" };
    const dump = await openDump(tiny.bytes());
    expect(dump).toMatchObject({ model: "", text: "", tokenCount: 6 });
    expect(dump.tokens).toBeUndefined();
    expect(await dump.query(0)).toBeUndefined();
    expect(await dump.queryTensor(0)).toBeUndefined();
    expect(dump.rotary.frequencies).toEqual(frequenciesOf(1e5, 16));
  });

  it("takes the rotary embedding from options, from frequencies, from theta", async () => {
    const rotaryOf = async (metadata: Record<string, string>, options: DumpOptions = {}) => {
      const tiny = new TinyDump();
      tiny.metadata = metadata;
      return (await openDump(tiny.bytes(), options)).rotary;
    };
    expect(await rotaryOf({ rope_theta: "500000", rope_layout: "interleaved" })).toEqual({
      layout: "interleaved",
      frequencies: frequenciesOf(500000, 16),
    });
    expect(
      await rotaryOf({ rope_theta: "500000", rope_layout: "interleaved" }, { layout: "half-split", theta: 10000 }),
    ).toEqual({ layout: "half-split", frequencies: frequenciesOf(10000, 16) });
    expect(await rotaryOf({}, { theta: 10000 })).toEqual({
      layout: "half-split",
      frequencies: frequenciesOf(10000, 16),
    });
    // Listed ones go before any theta; fewer than headDim / 2 are partial rotary.
    const listed = Array.from({ length: 16 }, (_, i) => 0.9 ** i);
    for (const frequencies of [listed, [1, 0.25, 1e-7], []]) {
      const metadata = { rope_theta: "10000", rope_frequencies: JSON.stringify(frequencies) };
      expect(await rotaryOf(metadata, { theta: 500000 })).toEqual({
        layout: "half-split",
        frequencies: Float64Array.from(frequencies),
      });
    }
  });

  it("gives no layer that it does not have", async () => {
    const dump = await openDump(new TinyDump().bytes());
    for (const layer of [-1, 2, 0.5]) {
      const error = await failureOf(() => dump.key(layer));
      expect(error).toBeInstanceOf(RangeError);
      expect(error.message).toBe(`layer: expected an integer from 0 to 1, got ${layer}`);
    }
  });

  it("is closed once and gives nothing afterwards", async () => {
    const path = pathOf("tiny.safetensors");
    writeFileSync(path, new TinyDump().bytes());
    const dump = await openDump(path);
    await dump.close();
    await dump.close();
    for (const read of [dump.key, dump.value, dump.query, dump.queryTensor]) {
      const error = await failureOf(() => read(0));
      expect(error).toBeInstanceOf(DisposedError);
      expect(error.message).toBe(`${path}: expected an open file, got one closed before`);
    }
  });

  it("closes its source when it is refused", async () => {
    const tiny = new TinyDump();
    tiny.metadata.rope_theta = "none";
    const bytes = tiny.bytes();
    let closings = 0;
    const source = {
      size: bytes.length,
      read: async (offset: number, length: number) => bytes.slice(offset, offset + length),
      close: async () => void closings++,
    };
    await failureOf(() => openDump(source));
    expect(closings).toBe(1);
  });
});

// --------------------------------------------------------------------------------------------- wrong dumps
/** What is wrong, how to make it so, the class, and what the message says after the name of the source. */
type Wrong = [string, (tiny: TinyDump) => void, typeof FormatError | typeof UnsupportedError, string];

const meta =
  (key: string, value: string) =>
  (tiny: TinyDump): void => {
    tiny.metadata[key] = value;
  };

/** Layer 1's key starts behind four tensors of the header's length, so offsets are matched by pattern. */
const AT = "(at byte #)";

const TENSORS_WRONG: Wrong[] = [
  [
    "no tensor of a cache",
    (tiny) => {
      tiny.tensors = { "model.weight": { dtype: "F32", shape: [2] }, "layers.01.key": { dtype: "F32", shape: [2] } };
    },
    FormatError,
    'tensors: expected layers.N.key and layers.N.value, got "2 others" (at byte 8)',
  ],
  [
    "a missing key",
    (tiny) => delete tiny.tensors["layers.1.key"],
    FormatError,
    "layers.1.key: expected a tensor of this name, got nothing (at byte 8)",
  ],
  [
    "a missing value",
    (tiny) => delete tiny.tensors["layers.0.value"],
    FormatError,
    "layers.0.value: expected a tensor of this name, got nothing (at byte 8)",
  ],
  [
    "a query missing in one layer",
    (tiny) => delete tiny.tensors["layers.0.query"],
    FormatError,
    "layers.0.query: expected a tensor of this name, got nothing (at byte 8)",
  ],
  [
    "keys of a type that we do not read",
    (tiny) => (tiny.tensors["layers.0.key"].dtype = "F64"),
    UnsupportedError,
    'layers.0.key: dtype: expected F16, BF16 or F32, got "F64"',
  ],
  [
    "queries of a type that we do not read",
    (tiny) => (tiny.tensors["layers.0.query"].dtype = "I8"),
    UnsupportedError,
    'layers.0.query: dtype: expected F16, BF16 or F32, got "I8"',
  ],
  [
    "keys and values of two types",
    (tiny) => (tiny.tensors["layers.1.value"].dtype = "BF16"),
    UnsupportedError,
    'layers.1.value: dtype: expected F16 as layers.1.key has, got "BF16"',
  ],
  [
    "layers of two types",
    (tiny) => (tiny.tensors["layers.1.key"].dtype = "F32"),
    UnsupportedError,
    'layers.1.key: dtype: expected F16 as layers.0.key has, got "F32"',
  ],
  [
    "layers of unequal shape",
    (tiny) => (tiny.tensors["layers.1.key"].shape = [2, 5, 32]),
    FormatError,
    `layers.1.key: shape: expected [2, 6, 32] as layers.0.key has, got [2, 5, 32] ${AT}`,
  ],
  [
    "keys and values of unequal shape",
    (tiny) => (tiny.tensors["layers.1.value"].shape = [2, 6, 64]),
    FormatError,
    `layers.1.value: shape: expected [2, 6, 32] as layers.1.key has, got [2, 6, 64] ${AT}`,
  ],
  [
    "two dimensions",
    (tiny) => (tiny.tensors["layers.0.key"].shape = [6, 32]),
    FormatError,
    `layers.0.key: shape: expected 3 dimensions, got [6, 32] ${AT}`,
  ],
  [
    "queries of another head dim",
    (tiny) => {
      for (const n of [0, 1]) tiny.tensors[`layers.${n}.query`].shape = [4, 3, 64];
    },
    FormatError,
    `layers.0.query: shape: expected [a multiple of 2, at least 1, 32], got [4, 3, 64] ${AT}`,
  ],
  [
    "query heads that kv heads do not divide",
    (tiny) => {
      for (const n of [0, 1]) tiny.tensors[`layers.${n}.query`].shape = [3, 3, 32];
    },
    FormatError,
    `layers.0.query: shape: expected [a multiple of 2, at least 1, 32], got [3, 3, 32] ${AT}`,
  ],
  [
    "query tensors without queries",
    (tiny) => {
      for (const n of [0, 1]) tiny.tensors[`layers.${n}.query`].shape = [4, 0, 32];
    },
    FormatError,
    `layers.0.query: shape: expected [a multiple of 2, at least 1, 32], got [4, 0, 32] ${AT}`,
  ],
  [
    "more queries than tokens",
    (tiny) => {
      for (const n of [0, 1]) tiny.tensors[`layers.${n}.query`].shape = [4, 7, 32];
    },
    FormatError,
    `layers.0.query: shape: expected at most 6 queries, got 7 ${AT}`,
  ],
  [
    "token ids of another type",
    (tiny) => (tiny.tensors.tokens = { dtype: "I64", shape: [6] }),
    FormatError,
    `tokens: dtype: expected I32, got "I64" ${AT}`,
  ],
  [
    "too few token ids",
    (tiny) => (tiny.tensors.tokens = { dtype: "I32", shape: [5] }),
    FormatError,
    `tokens: shape: expected [6] as the keys have, got [5] ${AT}`,
  ],
];

const metadataWrong = (key: string, value: string, expected: string): Wrong => [
  `${key} ${value}`,
  meta(key, value),
  FormatError,
  `metadata ${key}: expected ${expected}, got ${JSON.stringify(value)} (at byte 8)`,
];

/** The tensors decide; the fault is said of the tensor that contradicts. */
const contradiction = (key: string, value: string, tensor: string, got: number): Wrong => [
  `${key} ${value} against the tensors`,
  meta(key, value),
  FormatError,
  `${tensor}: expected ${key} ${value} as the metadata say, got ${got} ${AT}`,
];

const METADATA_WRONG: Wrong[] = [
  contradiction("kv_heads", "3", "layers.0.key", 2),
  contradiction("head_dim", "64", "layers.0.key", 32),
  contradiction("query_heads", "2", "layers.0.query", 4),
  metadataWrong("kv_heads", "two", `an integer from 0 to ${Number.MAX_SAFE_INTEGER}`),
  metadataWrong("kv_heads", "-2", `an integer from 0 to ${Number.MAX_SAFE_INTEGER}`),
  metadataWrong("context_tokens", "0", "an integer from 1 to 6"),
  metadataWrong("context_tokens", "7", "an integer from 1 to 6"),
  metadataWrong("context_tokens", "4.5", "an integer from 1 to 6"),
  metadataWrong("continuation_tokens", "7", "an integer from 0 to 6"),
  metadataWrong("query_first_token", "4", "an integer from 0 to 3"),
  metadataWrong("layers", "0", "an integer from 1 to 65536"),
  [
    "fewer layers than a layer's number",
    meta("layers", "1"),
    FormatError,
    "metadata layers: expected more than 1, got 1 (at byte 8)",
  ],
  [
    "context and continuation that do not add up",
    (tiny) => Object.assign(tiny.metadata, { context_tokens: "3", continuation_tokens: "2" }),
    FormatError,
    `layers.0.key: expected context_tokens + continuation_tokens = 5 tokens, got 6 ${AT}`,
  ],
  metadataWrong("stored_layers", "0,one", "integers with commas"),
  metadataWrong("stored_layers", "", "integers with commas"),
  metadataWrong("stored_layers", "0", "layer 1, which has tensors, among them"),
  [
    "a stored layer without tensors",
    meta("stored_layers", "0,1,7"),
    FormatError,
    "layers.7.key: expected a tensor, since stored_layers lists the layer, got nothing (at byte 8)",
  ],
];

const LISTED = "metadata rope_frequencies";

const ROPE_WRONG: Wrong[] = [
  [
    "keys before RoPE",
    meta("rope_applied", "false"),
    UnsupportedError,
    'metadata rope_applied: expected keys after RoPE, got "false"',
  ],
  metadataWrong("rope_applied", "yes", '"true" or "false"'),
  [
    "no rotary embedding",
    (tiny) => delete tiny.metadata.rope_theta,
    FormatError,
    "metadata rope_theta: expected a rotary theta here, rope_frequencies, or options.theta, got nothing (at byte 8)",
  ],
  ...["", " ", "0", "0.5", "-10000", "NaN", "Infinity", "1e13", "ten"].map((value) =>
    metadataWrong("rope_theta", value, "a number from 1 to 1e12"),
  ),
  metadataWrong("rope_layout", "zigzag", '"half-split" or "interleaved"'),
  metadataWrong("rope_frequencies", "[1, 0.5", "a JSON array of numbers"),
  [
    "rope_frequencies that are an object",
    meta("rope_frequencies", '{"0":1}'),
    FormatError,
    `${LISTED}: expected a JSON array of numbers, got an object (at byte 8)`,
  ],
  [
    "rope_frequencies that are text",
    meta("rope_frequencies", '["1"]'),
    FormatError,
    `${LISTED}: expected a JSON array of numbers, got an array of 1 (at byte 8)`,
  ],
  [
    "more frequencies than pairs",
    meta("rope_frequencies", JSON.stringify(new Array(17).fill(1))),
    FormatError,
    `${LISTED}: rotary.frequencies.length: expected an integer from 0 to 16, got 17 (at byte 8)`,
  ],
  [
    "a frequency past half a turn",
    meta("rope_frequencies", "[1, 4]"),
    FormatError,
    `${LISTED}: rotary.frequencies[1]: expected a number from ${-Math.PI} to ${Math.PI}, got 4 (at byte 8)`,
  ],
  [
    "an infinite frequency",
    meta("rope_frequencies", "[1e999]"),
    FormatError,
    `${LISTED}: rotary.frequencies[0]: expected a number from ${-Math.PI} to ${Math.PI}, got Infinity (at byte 8)`,
  ],
];

describe("a wrong dump is refused", () => {
  it.each([...TENSORS_WRONG, ...METADATA_WRONG, ...ROPE_WRONG])("%s", async (_, change, kind, message) => {
    const tiny = new TinyDump();
    change(tiny);
    const error = await failureOf(() => openDump(tiny.bytes()));
    expect(error).toBeInstanceOf(kind);
    expect(error.message.replace(/at byte (?!8\))\d+/, "at byte #")).toBe(`bytes: ${message}`);
  });

  it.each([
    [{ tokens: 0 }, "layers.0.key: shape: expected at least 1 token, got [2, 0, 32] (at byte #)", FormatError],
    [{ headDim: 33 }, "layers.0.key: geometry.headDim: expected a multiple of 4, got 33", UnsupportedError],
    [{ headDim: 34 }, "layers.0.key: geometry.headDim: expected a multiple of 4, got 34", UnsupportedError],
    [{ headDim: 28 }, "layers.0.key: geometry.headDim: expected an integer from 32 to 256, got 28", UnsupportedError],
    [{ headDim: 260 }, "layers.0.key: geometry.headDim: expected an integer from 32 to 256, got 260", UnsupportedError],
    [{ kvHeads: 33 }, "layers.0.key: geometry.kvHeads: expected an integer from 1 to 32, got 33", UnsupportedError],
    [{ kvHeads: 0 }, "layers.0.key: geometry.kvHeads: expected an integer from 1 to 32, got 0", UnsupportedError],
  ])("%o", async (geometry, message, kind) => {
    const error = await failureOf(() => openDump(new TinyDump(geometry).bytes()));
    expect(error).toBeInstanceOf(kind);
    expect(error.message.replace(/at byte \d+/, "at byte #")).toBe(`bytes: ${message}`);
  });

  it("names the byte where the tensor begins that is wrong", async () => {
    const tiny = new TinyDump();
    tiny.tensors["layers.1.key"].shape = [2, 5, 32];
    const bytes = tiny.bytes();
    const begin = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true)) + 2 * 768 + 768;
    expect(await failureOf(() => openDump(bytes))).toMatchObject({ offsetBytes: begin });
  });

  it("with options that do not fit it", async () => {
    for (const tokens of [0, 7, 2.5, Number.NaN]) {
      const error = await failureOf(() => openDump(new TinyDump().bytes(), { tokens }));
      expect(error).toBeInstanceOf(RangeError);
      expect(error.message).toBe(`options.tokens: expected an integer from 1 to 6, got ${tokens}`);
    }
    const theta = await failureOf(() => openDump(new TinyDump().bytes(), { theta: 0 }));
    expect(theta).toBeInstanceOf(RangeError);
    expect(theta.message).toBe("theta: expected a number from 1 to 1000000000000, got 0");
  });
});

describe.each(PLATFORMS)("numbers that are none in a dump, on $name", ({ create }) => {
  const options = { ...DEFAULT_OPTIONS, sinks: 1, recent: 1 };
  const NONE: [Dtype, string, number[]][] = [
    ["F16", "NaN", [0x00, 0x7e]],
    ["F16", "infinity", [0x00, 0xfc]],
    ["BF16", "NaN", [0xc0, 0x7f]],
    ["BF16", "infinity", [0x80, 0x7f]],
    ["F32", "NaN", [0, 0, 0xc0, 0x7f]],
    ["F32", "infinity", [0, 0, 0x80, 0xff]],
  ];

  it.each(NONE)(
    "%s %s in keys, values or queries stops compression and leaves no memory in use",
    async (dtype, _, bits) => {
      const runtime = await create();
      for (const part of ["key", "value", "query"]) {
        const tiny = new TinyDump({ dtype });
        const name = `layers.1.${part}`;
        const bytes = tiny.data(name).slice();
        // The last element of all: a kernel's tail, an exact token.
        bytes.set(bits, bytes.length - bits.length);
        tiny.tensors[name].bytes = bytes;
        const dump = await openDump(tiny.bytes());
        const work = part === "value" ? compressValues : compressKeys;
        const error = await failureOf(() => work(runtime, dump, options));
        expect(error).toBeInstanceOf(RangeError);
        expect(error.message).toBe(`layer 1 ${part}: expected finite elements, got 1 of NaN or infinity`);
        expect(runtime.heap.bytesInUse).toBe(0);
      }
    },
  );
});
