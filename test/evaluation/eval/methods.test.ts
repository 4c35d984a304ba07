/** Every method on a made-up state: bytes counted, exact tokens untouched, a state that parses back. */
import { beforeAll, describe, expect, it } from "vitest";
import { compress } from "../../../src/codec/compress.ts";
import { parseLlamaState } from "../../../src/engines/llama-cpp.ts";
import { rounding } from "../../../src/evaluation/eval/floor.ts";
import {
  cacheOf,
  ENDS,
  EVAL_METHODS,
  EVICT,
  type EvalMethod,
  EXACT_BITS,
  FLOOR,
  methodsAt,
  type Restored,
  WINDOW,
} from "../../../src/evaluation/eval/methods.ts";
import type { Runtime } from "../../../src/runtime/runtime.ts";
import { PLATFORMS } from "../../support/platforms.ts";
import { elementsOf, relativeError } from "../../support/tiny-cache.ts";
import { modelOfTiny, tinyLlama, tinyState } from "../../support/tiny-state.ts";

const TOKENS = 200;
const CODED = TOKENS - ENDS.sinks - ENDS.recent;
const cache = tinyLlama(TOKENS);
const model = modelOfTiny(cache);

let runtime: Runtime;
beforeAll(async () => {
  runtime = await PLATFORMS[2].create();
});

const applied = (method: EvalMethod, transposed = false): Promise<Restored> => {
  const state = parseLlamaState(tinyState(cache, transposed));
  return method.apply(runtime, state, cacheOf(state, model), {});
};
const methodOf = (name: string): EvalMethod => EVAL_METHODS.find((method) => method.name === name)!;

describe.each(EVAL_METHODS.filter(({ name }) => ![WINDOW, EVICT].includes(name)))("$name", (method) => {
  it.each([false, true])(
    "gives a state that parses back, its ends untouched; values transposed: %s",
    async (turned) => {
      const { file, bits, bitsWithBasis } = await applied(method, turned);
      const state = parseLlamaState(file);
      expect(state).toMatchObject({ valuesTransposed: turned, tokens: cache.tokens, type: "f16" });
      expect(bits > 0.5 && bits <= bitsWithBasis).toBe(true);
      const restored = cacheOf(state, model);
      expect(restored.tokenCount).toBe(TOKENS);
      for (const layer of [0, 1]) {
        for (const part of ["key", "value"] as const) {
          const [got, expected] = [await restored[part](layer), cache.layers[layer][part]];
          const rowBytes = 2 * 32;
          for (let row = 0; row < 2 * TOKENS; row++) {
            const token = row % TOKENS;
            if (token >= ENDS.sinks && token < ENDS.sinks + CODED) continue;
            const rowOf = ({ bytes }: { bytes: Uint8Array }) => bytes.subarray(row * rowBytes, (row + 1) * rowBytes);
            expect(rowOf(got)).toEqual(rowOf(expected));
          }
          expect(got.bytes).not.toEqual(expected.bytes);
          expect(relativeError(elementsOf(got), elementsOf(expected))).toBeLessThan(0.3);
        }
      }
    },
  );
});

describe("bits", () => {
  it("of peers are their bytes", async () => {
    // Per row of 32: 2 bytes of scale or norm, codes, two groups' worth of minimum and step.
    expect((await applied(FLOOR)).bits).toBe(8 + 16 / 32);
    expect((await applied(methodOf("ggml q8_0"))).bitsWithBasis).toBe(8.5);
    expect((await applied(methodOf("ggml q4_0"))).bitsWithBasis).toBe(4.5);
    expect((await applied(methodOf("TurboQuant 3"))).bitsWithBasis).toBe(3 + 16 / 32);
  });

  it("of the codec count everything but the ends", async () => {
    const { bits, bitsWithBasis } = await applied(methodOf("codec layer span 1 K 1.25 V 2"));
    const coded = await compress(runtime, cache, { keyBits: 1.25, valueBits: 2, ...ENDS });
    let [growing, once] = [0, 0];
    for (const { keys, values } of coded.layers) {
      for (const { planes, books, norms, basis, centre } of [...keys, ...values]) {
        growing += planes.length + 6 * books.length + (norms ? norms.codes.length + 8 : 0);
        once += 2 * (centre?.length ?? 0) + 2 * (basis.columnScales?.length ?? 0);
        for (const width of basis.widths) once += Math.ceil((64 * width) / 8) + 5;
      }
    }
    const elements = 2 * 2 * CODED * 64;
    expect(bits).toBeCloseTo((8 * growing) / elements, 10);
    expect(bitsWithBasis).toBeCloseTo((8 * (growing + once)) / elements, 10);
  });
});

describe("values of 16 bits", () => {
  const [pair, coded] = [EXACT_BITS, 2].map((valueBits) => methodsAt([{ keyBits: 1.25, valueBits }]));
  const names = [
    "codec layer span 1 K 1.25 V ",
    "codec entropy span 1 K 1.25 V ",
    "SVDq paper [4, 4, 2, 0, 0, 0, 0, 0] V ",
  ];

  it.each(names)("stay as they are in %s16, whose keys are those of any other row", async (name) => {
    const named = (methods: EvalMethod[], bits: number) => methods.find((method) => method.name === `${name}${bits}`)!;
    for (const turned of [false, true]) {
      const keysAlone = await applied(named(pair, EXACT_BITS), turned);
      const both = await applied(named(coded, 2), turned);
      const [got, other] = [keysAlone, both].map(({ file }) => parseLlamaState(file));
      expect(got.values).toEqual(parseLlamaState(tinyState(cache, turned)).values);
      expect(got.keys).toEqual(other.keys);
      expect(other.values).not.toEqual(got.values);
      // As many bits of keys: values of 16 in place of about 2.
      expect(keysAlone.bits).toBeGreaterThan(8.5);
      expect(keysAlone.bits - both.bits).toBeGreaterThan(6.5);
      expect(keysAlone.bits - both.bits).toBeLessThan(7.5);
    }
  });
});

it.each([
  [WINDOW, 0, CODED],
  [EVICT, Math.floor(CODED / 4), CODED - Math.floor((3 * CODED) / 4)],
])("%s has the kept cells only, and all token ids", async (name, before, after) => {
  const [start, end] = name === WINDOW ? [4, TOKENS - 64] : [4 + before, TOKENS - 64 - after];
  for (const turned of [false, true]) {
    const { file, bits } = await applied(methodOf(name), turned);
    const state = parseLlamaState(file);
    expect(bits).toBeCloseTo((16 * (CODED - (end - start))) / CODED, 10);
    expect(state.tokens).toEqual(cache.tokens);
    const kept = Array.from({ length: TOKENS }, (_, i) => i).filter((i) => i < start || i >= end);
    expect([...state.positions]).toEqual(kept);
    expect(state.sequences.length).toBe(kept.length);
    const row = (bytes: Uint8Array, cell: number) => bytes.subarray(cell * 128, cell * 128 + 128);
    const exact = parseLlamaState(tinyState(cache, turned));
    for (const [i, cell] of kept.entries()) expect(row(state.keys[1], i)).toEqual(row(exact.keys[1], cell));
  }
});

describe("8-bit rounding", () => {
  it("is off by half a step at most, and keeps zeros", () => {
    const shape = { heads: 1, tokens: 2, headDim: 4 };
    const values = Float32Array.of(127, -63.4, 0.6, -127, 0, 0, 0, 0);
    const rounded = rounding("key");
    expect([...rounded.decode(rounded.encode(values, shape), shape)]).toEqual([127, -63, 1, -127, 0, 0, 0, 0]);
  });

  it("refuses what is not finite", () => {
    expect(() => rounding("value").encode(Float32Array.of(Number.NaN), { heads: 1, tokens: 1, headDim: 1 })).toThrow(
      RangeError,
    );
  });
});
