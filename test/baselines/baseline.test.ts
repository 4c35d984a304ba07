/** What holds for every peer: bytes alone give the tensor, and what has no place in them is refused. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packBits, packedBytes, unpackBits } from "../../src/baselines/bits.ts";
import { BASELINES, bitsPerElement } from "../../src/baselines/index.ts";
import { failureOf } from "../support/failure.ts";
import { noise } from "../support/noise.ts";

const SHAPE = { heads: 2, tokens: 33, headDim: 64 };
const COUNT = 2 * 33 * 64;

describe("the peers", () => {
  it("are those of the numpy table and ggml's formats, each once for keys and for values", () => {
    const names = ["KIVI 2 bit, groups of 32", "KIVI 4 bit, groups of 32"];
    names.push("TurboQuant 2", "TurboQuant 3", "TurboQuant 4", "ggml q4_0", "ggml q8_0");
    const expected = ["K", "V"].flatMap((kind) => names.map((name) => `${kind} ${name}`));
    expect(BASELINES.map(({ name }) => name)).toEqual(expected);
    for (const { name, kind } of BASELINES) expect(kind).toBe(name.startsWith("K ") ? "key" : "value");
  });

  it("err less the more bits they spend", () => {
    const values = noise(COUNT, 4);
    for (const kind of ["key", "value"]) {
      const points = BASELINES.filter((baseline) => baseline.kind === kind).map((baseline) => {
        const bytes = baseline.encode(values, SHAPE);
        const decoded = baseline.decode(bytes, SHAPE);
        const error = values.reduce((sum, x, i) => sum + (x - decoded[i]) ** 2, 0);
        return { family: baseline.name.slice(0, 6), bits: bitsPerElement(bytes, SHAPE), error };
      });
      for (const a of points) {
        for (const b of points)
          if (a.family === b.family && a.bits < b.bits) expect(a.error).toBeGreaterThan(2 * b.error);
      }
    }
  });
});

describe.each(BASELINES)("$name", (baseline) => {
  const sound = baseline.encode(noise(COUNT), SHAPE);

  it("decodes from the bytes alone, the same each time, and leaves what it is given alone", () => {
    const values = noise(COUNT, 8);
    const bytes = baseline.encode(values, SHAPE);
    const decoded = baseline.decode(bytes.slice(), SHAPE);
    expect(values).toEqual(noise(COUNT, 8));
    expect(baseline.encode(values, SHAPE)).toEqual(bytes);
    expect(baseline.decode(bytes, SHAPE)).toEqual(decoded);
    expect(decoded.length).toBe(COUNT);
    const [error, energy] = [0, 0].map((_, which) =>
      values.reduce((sum, x, i) => sum + (which ? x : x - decoded[i]) ** 2, 0),
    );
    expect(error / energy).toBeLessThan(0.15);
  });

  it("gives zeros for zeros", () => {
    const decoded = baseline.decode(baseline.encode(new Float32Array(COUNT), SHAPE), SHAPE);
    expect(decoded.every((x) => x === 0)).toBe(true);
  });

  it("holds no tokens, and no heads", () => {
    for (const shape of [
      { ...SHAPE, tokens: 0 },
      { ...SHAPE, heads: 0 },
    ]) {
      const bytes = baseline.encode(new Float32Array(0), shape);
      expect(bytes.length).toBe(0);
      expect(baseline.decode(bytes, shape)).toEqual(new Float32Array(0));
      expect(bitsPerElement(bytes, shape)).toBe(0);
    }
  });

  it.each([Number.NaN, Infinity, -Infinity, 65505, -65536])("refuses %s", async (bad) => {
    const values = new Float32Array(COUNT);
    values[COUNT - 1] = bad;
    const error = await failureOf(() => baseline.encode(values, SHAPE));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe(`values[${COUNT - 1}]: expected a number from -65504 to 65504, got ${bad}`);
  });

  it("takes the largest half", () => {
    const values = new Float32Array(COUNT).fill(65504);
    const decoded = baseline.decode(baseline.encode(values, SHAPE), SHAPE);
    expect(decoded.every(Number.isFinite)).toBe(true);
  });

  it.each([1, -1, -sound.length])("refuses %i bytes more or less", async (more) => {
    const bytes = new Uint8Array(sound.length + more);
    const error = await failureOf(() => baseline.decode(bytes, SHAPE));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe(`bytes.length: expected ${sound.length} for the shape, got ${bytes.length}`);
  });

  it("refuses values that do not have their shape", async () => {
    const error = await failureOf(() => baseline.encode(new Float32Array(COUNT - 1), SHAPE));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe(`values.length: expected ${COUNT} for its shape, got ${COUNT - 1}`);
  });

  it.each([
    [{ ...SHAPE, heads: -1 }, "shape.heads: expected an integer from 0 to 65536, got -1"],
    [{ ...SHAPE, tokens: 0.5 }, "shape.tokens: expected an integer from 0 to 16777216, got 0.5"],
  ])("refuses the shape %o", async (shape, message) => {
    for (const work of [() => baseline.encode(noise(COUNT), shape), () => baseline.decode(sound, shape)]) {
      const error = await failureOf(work);
      expect(error).toBeInstanceOf(RangeError);
      expect(error.message).toBe(message);
    }
  });
});

describe("bits without gaps", () => {
  it("come back, in the least bytes, and touch no others", () => {
    const cases = fc
      .integer({ min: 1, max: 8 })
      .chain((bits) => fc.tuple(fc.constant(bits), fc.array(fc.nat(2 ** bits - 1), { maxLength: 70 }), fc.nat(5)));
    fc.assert(
      fc.property(cases, ([bits, list, offset]) => {
        const codes = Uint8Array.from(list);
        const size = packedBytes(codes.length, bits);
        expect(size).toBe(Math.ceil((bits * codes.length) / 8));
        const out = new Uint8Array(offset + size + 3).fill(0xee);
        packBits(out, offset, codes, bits);
        expect(unpackBits(out, offset, codes.length, bits)).toEqual(codes);
        expect(out.subarray(0, offset).every((byte) => byte === 0xee)).toBe(true);
        expect(out.subarray(offset + size).every((byte) => byte === 0xee)).toBe(true);
      }),
    );
  });

  it("lie from the lowest bit up", () => {
    const out = new Uint8Array(3);
    packBits(out, 0, Uint8Array.of(1, 2, 3, 4, 5, 6), 3);
    // 001 010 011 100 101 110 from the right: 110|101|100 011|010|001.
    expect([...out]).toEqual([0b11010001, 0b01011000, 0b00000011]);
  });
});
