import { describe, expect, it } from "vitest";
import { crc32c, expectFingerprint, type FingerprintInput, fingerprintOf, hex32 } from "../../src/archive/checksum.ts";
import { frequenciesOf } from "../../src/codec/rotary.ts";
import { MismatchError } from "../../src/errors.ts";

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

/** RFC 3720, B.4, and the usual check word. */
const CRC_CASES: [string, Uint8Array, string][] = [
  ["nothing", new Uint8Array(0), "00000000"],
  ["123456789", ascii("123456789"), "e3069283"],
  ["32 zeros", new Uint8Array(32), "8a9136aa"],
  ["32 ones", new Uint8Array(32).fill(0xff), "62a8ab43"],
  ["0 to 31", Uint8Array.from({ length: 32 }, (_, i) => i), "46dd794e"],
];

const input = (change: Partial<FingerprintInput> = {}): FingerprintInput => ({
  model: "SmolLM2-135M-Instruct",
  geometry: { layerCount: 2, kvHeads: 3, headDim: 64 },
  rotary: { layout: "half-split", frequencies: frequenciesOf(100000, 32) },
  layerNumbers: [5, 20],
  ...change,
});

describe("CRC-32C", () => {
  it.each(CRC_CASES)("of %s", (_, bytes, expected) => {
    expect(hex32(crc32c(bytes))).toBe(expected);
  });
});

describe("fingerprint", () => {
  // Computed with zlib.crc32 and a bitwise CRC-32C in Python.
  it("stays what it was: files carry it", () => {
    expect(
      fingerprintOf(input({ model: "m", rotary: { layout: "interleaved", frequencies: Float64Array.of(1) } })),
    ).toBe("154df7471e6387de");
  });

  const [first, ...rest] = frequenciesOf(100000, 32);
  it.each<[string, Partial<FingerprintInput>]>([
    ["model", { model: "SmolLM2-135M" }],
    ["number of layers", { geometry: { layerCount: 3, kvHeads: 3, headDim: 64 } }],
    ["kv heads", { geometry: { layerCount: 2, kvHeads: 4, headDim: 64 } }],
    ["head dim", { geometry: { layerCount: 2, kvHeads: 3, headDim: 128 } }],
    ["layout", { rotary: { layout: "interleaved", frequencies: frequenciesOf(100000, 32) } }],
    [
      "last bit of a frequency",
      {
        rotary: {
          layout: "half-split",
          frequencies: Float64Array.of(first, ...rest.slice(0, -1), rest.at(-1)! * (1 + 2 ** -52)),
        },
      },
    ],
    [
      "number of frequencies",
      { rotary: { layout: "half-split", frequencies: Float64Array.of(first, ...rest.slice(0, -1)) } },
    ],
    ["layer numbers", { layerNumbers: [5, 21] }],
  ])("changes with another %s, in both halves", (_, change) => {
    const [one, other] = [fingerprintOf(input()), fingerprintOf(input(change))];
    expect(other).toMatch(/^[0-9a-f]{16}$/);
    expect(other.slice(0, 8)).not.toBe(one.slice(0, 8));
    expect(other.slice(8)).not.toBe(one.slice(8));
  });

  it("is told from the expected one by a MismatchError that names both and the model", () => {
    const got = fingerprintOf(input());
    expect(() => expectFingerprint(input(), got)).not.toThrow();
    expect(() => expectFingerprint(input(), "0123456789abcdef")).toThrow(
      new MismatchError(
        `model fingerprint: expected 0123456789abcdef, got ${got} (model "SmolLM2-135M-Instruct", 2 layers, ` +
          "3 kv heads, head dim 64, half-split)",
      ),
    );
  });
});
