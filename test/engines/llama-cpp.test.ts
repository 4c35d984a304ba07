/** State files of llama.cpp: bytes made by hand from the layout, there and back, and every state that is refused. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { compress } from "../../src/codec/compress.ts";
import { ELEMENT_BYTES } from "../../src/codec/source.ts";
import {
  compressLlamaState,
  type GgufModel,
  parseLlamaState,
  restoreLlamaState,
  serialiseLlamaState,
  sourceOfLlamaState,
} from "../../src/engines/llama-cpp.ts";
import { FormatError, MismatchError, UnsupportedError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { failureOf } from "../support/failure.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyCache, type TinyCacheOptions } from "../support/tiny-cache.ts";
import { Bytes } from "../support/tiny-gguf.ts";

const TYPE_NUMBERS = { f32: 0, f16: 1, bf16: 30 };

interface StateOptions {
  transposed?: boolean;
  /** Token ids past the cells. */
  more?: number[];
  firstPosition?: number;
  /** Empty streams before and after the one with cells. */
  before?: number;
  after?: number;
}

/** The file that llama.cpp would write of a cache, element by element from the layout. */
function stateOf(cache: TinyCache, options: StateOptions = {}): Uint8Array {
  const { transposed = false, more = [], firstPosition = 0, before = 0, after = 0 } = options;
  const { kvHeads, headDim, layerCount } = cache.geometry;
  const { type } = cache.layers[0].key;
  const size = ELEMENT_BYTES[type];
  const cells = cache.tokenCount;
  const row = kvHeads * headDim;
  const ids = [...cache.tokens!, ...more];
  const out = new Bytes().raw([0x71, 0x73, 0x67, 0x67]).u32(3).u32(ids.length);
  for (const id of ids) out.i32(id);
  out.u32(before + 1 + after);
  for (let i = 0; i < before; i++) out.u32(0);
  out.u32(cells);
  for (let i = 0; i < cells; i++)
    out
      .i32(firstPosition + i)
      .u32(1)
      .i32(5);
  out.u32(transposed ? 1 : 0).u32(layerCount);
  const element = (bytes: Uint8Array, token: number, d: number) => {
    const at = ((Math.floor(d / headDim) * cells + token) * headDim + (d % headDim)) * size;
    return bytes.subarray(at, at + size);
  };
  const rows = (bytes: Uint8Array) => {
    out.i32(TYPE_NUMBERS[type]).u64(row * size);
    for (let token = 0; token < cells; token++) for (let d = 0; d < row; d++) out.raw(element(bytes, token, d));
  };
  const columns = (bytes: Uint8Array) => {
    out.i32(TYPE_NUMBERS[type]).u32(size).u32(row);
    for (let d = 0; d < row; d++) for (let token = 0; token < cells; token++) out.raw(element(bytes, token, d));
  };
  for (const { key } of cache.layers) rows(key.bytes);
  for (const { value } of cache.layers) (transposed ? columns : rows)(value.bytes);
  for (let i = 0; i < after; i++) out.u32(0);
  return out.bytes();
}

const tinyOf = (options: TinyCacheOptions = {}) => new TinyCache({ layout: "interleaved", tokens: 20, ...options });
const modelOf = ({ geometry, rotary }: TinyCache): GgufModel => ({
  ...{ architecture: "llama", geometry, rotary, model: "Tiny#llama" },
});
const EXACT = { sinks: 10, recent: 9, keyBits: 8, valueBits: 8 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create();
});

describe.each(["f32", "f16", "bf16"] as const)("%s", (type) => {
  describe.each([true, false])("values transposed: %s", (transposed) => {
    const cache = tinyOf({ type });
    const bytes = stateOf(cache, { transposed });

    it("parsed and written again it is the same file", () => {
      for (const options of [{}, { more: [7, 8] }, { firstPosition: 40 }, { before: 2, after: 1 }]) {
        const file = stateOf(cache, { transposed, ...options });
        expect(serialiseLlamaState(parseLlamaState(file))).toEqual(file);
        // A Buffer's slices are views; they must not show.
        expect(serialiseLlamaState(parseLlamaState(Buffer.from(file)))).toEqual(file);
      }
    });

    it("a source has each head by itself", async () => {
      const source = sourceOfLlamaState(parseLlamaState(Buffer.from(bytes)), modelOf(cache));
      expect(source).toMatchObject({ tokenCount: 20, layerNumbers: [0, 1], model: "Tiny#llama", tokens: cache.tokens });
      for (const layer of [0, 1]) {
        expect(await source.key(layer)).toEqual(cache.layers[layer].key);
        expect(await source.value(layer)).toEqual(cache.layers[layer].value);
      }
    });

    it("exact tokens come back in place, through an archive too", async () => {
      const { coded, skeleton } = await compressLlamaState(runtime, bytes, { model: modelOf(cache), options: EXACT });
      const restored = restoreLlamaState(runtime, joinChunks(encodeArchive(coded)), {
        model: modelOf(cache),
        skeleton,
      });
      expect(restored.length).toBe(bytes.length);
      const source = sourceOfLlamaState(parseLlamaState(restored), modelOf(cache));
      const tokenBytes = 32 * ELEMENT_BYTES[type];
      for (const part of ["key", "value"] as const) {
        const [got, expected] = [(await source[part](1)).bytes, cache.layers[1][part].bytes];
        for (let token = 0; token < 40; token++) {
          // The only one that was coded.
          if (token % 20 === 10) continue;
          const at = token * tokenBytes;
          expect(got.subarray(at, at + tokenBytes)).toEqual(expected.subarray(at, at + tokenBytes));
        }
      }
    });
  });
});

describe("restored", () => {
  const cache = tinyOf();
  const model = modelOf(cache);

  it("a plain state needs no skeleton, and may be for the other kind of context or type", async () => {
    const { coded, skeleton } = await compressLlamaState(runtime, stateOf(cache), { model, options: EXACT });
    const kept = parseLlamaState(restoreLlamaState(runtime, coded, { skeleton }));
    const made = parseLlamaState(restoreLlamaState(runtime, coded, { flashAttention: true }));
    expect(made).toEqual({ ...kept, sequences: new Int32Array(20) });
    const off = parseLlamaState(restoreLlamaState(runtime, coded, { skeleton, flashAttention: false, type: "f32" }));
    expect(off).toMatchObject({ valuesTransposed: true, type: "f32" });
    const source = sourceOfLlamaState(off, model);
    const wide = sourceOfLlamaState(
      parseLlamaState(restoreLlamaState(runtime, coded, { skeleton, type: "f32" })),
      model,
    );
    expect(await source.value(1)).toEqual(await wide.value(1));
  });

  it("keeps positions, ids past the cells, and streams", async () => {
    const bytes = stateOf(cache, { more: [3, 4], before: 1, after: 2 });
    const { coded, skeleton } = await compressLlamaState(runtime, bytes, { model, options: EXACT });
    expect(coded.tokens).toEqual(cache.tokens);
    expect(parseLlamaState(restoreLlamaState(runtime, coded, { skeleton }))).toMatchObject(skeleton);
    // Where positions do not begin at 0, which ids the cells have is not known.
    const moved = await compressLlamaState(runtime, stateOf(cache, { firstPosition: 4 }), { model, options: EXACT });
    expect(moved.coded.tokens).toBeUndefined();
    expect(parseLlamaState(restoreLlamaState(runtime, moved.coded, moved)).positions[0]).toBe(4);
  });

  it("not for another model, with another skeleton, or without what it needs", async () => {
    const { coded, skeleton } = await compressLlamaState(runtime, stateOf(cache), { model, options: EXACT });
    for (const other of [{ ...model, model: "Other" }, modelOf(tinyOf({ layers: 3 })), modelOf(tinyOf({ pairs: 8 }))]) {
      const error = await failureOf(() => restoreLlamaState(runtime, coded, { model: other, skeleton }));
      expect(error).toBeInstanceOf(MismatchError);
    }
    const short = parseLlamaState(stateOf(tinyOf({ tokens: 19 })));
    const error = await failureOf(() => restoreLlamaState(runtime, coded, { skeleton: short }));
    expect(error).toBeInstanceOf(MismatchError);
    expect(error.message).toBe("skeleton: expected 20 cells as the cache has tokens, got 19");
    expect((await failureOf(() => restoreLlamaState(runtime, coded))).message).toMatch(
      /^flashAttention: expected true/,
    );
    const nameless = await compress(runtime, tinyOf({ ids: false }), EXACT);
    expect((await failureOf(() => restoreLlamaState(runtime, nameless, { flashAttention: true }))).message).toMatch(
      /^skeleton: expected one for a cache without token ids/,
    );
    expect(await failureOf(() => restoreLlamaState(runtime, new Uint8Array(9)))).toBeInstanceOf(FormatError);
  });
});

describe("refused:", () => {
  const cache = tinyOf({ tokens: 3 });
  const sound = stateOf(cache);
  const HEAD = 12 + 4 * 3;
  const CELLS = HEAD + 8;
  const MIDDLE = CELLS + 12 * 3;
  const ROWS = MIDDLE + 8;
  const VALUES = ROWS + 2 * (12 + 3 * 128);
  const with32 = (at: number, value: number, bytes = sound) => {
    const copy = bytes.slice();
    new DataView(copy.buffer).setInt32(at, value, true);
    return copy;
  };
  const transposed = stateOf(cache, { transposed: true });

  it.each<[string, Uint8Array, RegExp]>([
    ["q8_0", with32(ROWS, 8), /layer 0 keys: expected f32, f16 or bf16, got q8_0 \(llama\.cpp rotates/],
    ["q4_0 values", with32(VALUES, 2), /layer 0 values: .* got q4_0/],
    ["two types", with32(VALUES, 30), /types: expected f16 throughout, got bf16/],
    ["an empty sequence", with32(HEAD + 4, 0).subarray(0, HEAD + 8), /cells: expected at least 1, got 0/],
    ["more bytes", Uint8Array.of(...sound, 0), /expected the end \(a sliding-window or hybrid model.*, got 1 more bytes/],
    ["two streams with cells", with32(stateOf(cache, { after: 1 }).length - 4, 3, stateOf(cache, { after: 1 })),
      /stream 1: cells: expected 0, because one stream has some already, got 3/],
  ])("%s (UnsupportedError)", async (_, bytes, message) => {
    const error = await failureOf(() => parseLlamaState(bytes, "s.bin"));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^s\.bin: /);
  }); // biome-ignore format: a table

  it.each<[string, Uint8Array, RegExp, number]>([
    ["magic", with32(0, 7), /magic: expected "ggsq" \(0x67677371\), got 0x7/, 0],
    ["version 2", with32(4, 2), /version: expected 3, the one that this svdq knows, got 2/, 4],
    ["more tokens than bytes", with32(8, 1 << 30), /tokens: expected at most \d+, .* got 1073741824/, 8],
    ["no stream", with32(HEAD, 0), /streams: expected 1 to 256, got 0/, HEAD],
    ["more cells than bytes", with32(HEAD + 4, -1), /cells: expected at most \d+, .* got 4294967295/, HEAD + 4],
    ["cells of two sequences", with32(CELLS + 4, 2), /cell 0: sequences: expected 1 \(recurrent and M-RoPE/, CELLS + 4],
    ["transposed by 2", with32(MIDDLE, 2), /values transposed: expected 0 or 1, got 2/, MIDDLE],
    ["no layers", with32(MIDDLE + 4, 0), /layers: expected 1 to 1024, got 0/, MIDDLE + 4],
    ["another type", with32(ROWS, 99), /layer 0 keys: type: expected f32, f16 or bf16 \(0, 1 or 30\), got 99/, ROWS],
    ["rows of odd bytes", with32(ROWS + 4, 127), /keys: row: expected a multiple of 2 bytes, got 127/, ROWS + 4],
    ["rows without end", with32(ROWS + 8, 1), /keys: row: expected at most \d+ bytes, got 4294967424/, ROWS + 4],
    ["elements of 4 bytes", with32(VALUES + 4, 4, transposed), /values: element: expected 2 bytes, got 4/, VALUES + 4],
    [
      "rows of nothing",
      with32(VALUES + 8, 0, transposed),
      /values: row: expected at least 1 element, got 0/,
      VALUES + 8,
    ],
  ])("%s (FormatError)", async (_, bytes, message, offset) => {
    const error = await failureOf(() => parseLlamaState(bytes));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(message);
    expect((error as FormatError).offsetBytes).toBe(offset);
  });

  it("cut short anywhere is a FormatError", async () => {
    for (const bytes of [sound, transposed]) {
      for (let length = 0; length < bytes.length; length++) {
        expect(await failureOf(() => parseLlamaState(bytes.subarray(0, length)))).toBeInstanceOf(FormatError);
      }
    }
  });

  it("any byte changed is an error of ours, or another sound file", () => {
    fc.assert(
      fc.property(fc.nat(ROWS + 12), fc.nat(255), fc.boolean(), (offset, byte, other) => {
        const bytes = (other ? transposed : sound).slice();
        bytes[offset] = byte;
        try {
          expect(serialiseLlamaState(parseLlamaState(bytes))).toEqual(bytes);
        } catch (error) {
          expect([FormatError, UnsupportedError]).toContain((error as Error).constructor);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("layers of different rows", async () => {
    const bytes = transposed.slice(0, transposed.length - 3 * 2);
    const lastRow = VALUES + 12 + 3 * 128 + 8;
    const error = await failureOf(() => parseLlamaState(with32(lastRow, 63, bytes)));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toMatch(/rows: expected 384 bytes of keys and of values in every layer, got 378/);
  });

  it("a state of another model, and positions with a gap", async () => {
    const refusal = (model: GgufModel, bytes = sound) =>
      failureOf(() => compressLlamaState(runtime, bytes, { model, options: { sinks: 0, recent: 0 } }));
    for (const other of [tinyOf({ layers: 3 }), tinyOf({ kvHeads: 1 }), tinyOf({ headDim: 64 })]) {
      const error = await refusal(modelOf(other));
      expect(error).toBeInstanceOf(MismatchError);
      expect(error.message).toMatch(
        /^state: expected \d layers of \d+ elements .*, got 2 layers of 64 elements a token$/,
      );
    }
    const gap = await refusal(modelOf(cache), with32(CELLS + 24, 9));
    expect(gap).toBeInstanceOf(UnsupportedError);
    expect(gap.message).toBe("state: expected positions that follow one another, got cell 2 at 9 after 1");
  });
});
