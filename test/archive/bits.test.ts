import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fitsWidth, packedRowBytes, packRow, unpackRow } from "../../src/archive/bits.ts";

/** Bit k of code i where the head of bits.ts says it lies. */
function bitAt(bytes: Uint8Array, width: number, i: number, k: number): number {
  const bit = i * width + k;
  return (bytes[Math.floor(bit / 8)] >> (bit % 8)) & 1;
}

const rows = fc
  .integer({ min: 2, max: 12 })
  .chain((width) =>
    fc.tuple(fc.constant(width), fc.array(fc.integer({ min: -(2 ** (width - 1)), max: 2 ** (width - 1) - 1 }))),
  );

describe("codes in bits", () => {
  it("come back, every bit in its place and zeros after the last", () => {
    fc.assert(
      fc.property(rows, ([width, codes]) => {
        const bytes = new Uint8Array(packedRowBytes(codes.length, width) + 2).fill(0xee);
        packRow(Int16Array.from(codes), width, bytes, 1);
        expect([bytes[0], bytes.at(-1)]).toEqual([0xee, 0xee]);
        const packed = bytes.subarray(1, -1);
        codes.forEach((code, i) => {
          for (let k = 0; k < width; k++) expect(bitAt(packed, width, i, k)).toBe((code >> k) & 1);
        });
        const back = new Int16Array(codes.length);
        expect(unpackRow(bytes, 1, width, back)).toBe(0);
        expect(Array.from(back)).toEqual(codes);
      }),
    );
  });

  it("pack as the worked example of docs/format.md", () => {
    const out = new Uint8Array(2);
    packRow(Int16Array.of(1, -2, 3, -4), 3, out, 0);
    // 001, 110, 011, 100 from the lowest bit up.
    expect(out).toEqual(Uint8Array.of(0b11110001, 0b00001000));
  });

  it("tell bits that are left over", () => {
    const codes = new Int16Array(3);
    expect(unpackRow(Uint8Array.of(0xff, 0x81), 0, 3, codes)).toBe(0x40);
    expect(Array.from(codes)).toEqual([-1, -1, -1]);
  });

  it.each([
    [2, -2, 1],
    [7, -64, 63],
    [12, -2048, 2047],
  ])("of %i bits reach from %i to %i", (width, least, greatest) => {
    expect([least - 1, least, greatest, greatest + 1].map((code) => fitsWidth(code, width))).toEqual([
      false,
      true,
      true,
      false,
    ]);
  });
});
