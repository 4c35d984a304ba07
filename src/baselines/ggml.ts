/**
 * ggml's q8_0 and q4_0, the quantized cache types of llama.cpp (`--cache-type-k q8_0`), bit for bit as
 * quantize_row_q8_0_ref and quantize_row_q4_0_ref of ggml-quants.c make them: f32 arithmetic, blocks of 32 along headDim.
 *
 *   q8_0, 34 bytes   d f16 | code[32] i8           d = amax / 127             x = d * code
 *   q4_0, 18 bytes   d f16 | nibbles[16] u8        d = signed maximum / -8    x = d * (code - 8)
 *                    nibbles[i] = code[i] | code[i + 16] << 4
 *
 * Codes are chosen against the f32 d, before it is rounded to f16: so does ggml.
 */
import { UnsupportedError } from "../errors.ts";
import { type Baseline, checkBytes, checkTensor, elementCount, type TensorShape } from "./baseline.ts";
import { getHalf, putHalf } from "./bits.ts";

const BLOCK = 32;
const HALF_BLOCK = 16;
const { fround } = Math;

interface BlockFormat {
  blockBytes: number;
  /** Writes the block of values[first … first + 31] at `at`. */
  encode(bytes: Uint8Array, at: number, values: Float32Array, first: number): void;
  decode(values: Float32Array, first: number, bytes: Uint8Array, at: number): void;
}

/** 1 / d in f32, as ggml; 0 also where it would overflow, which ggml leaves undefined: d is then 0 in f16. */
function inverseOf(d: number): number {
  const inverse = d === 0 ? 0 : fround(1 / d);
  return Number.isFinite(inverse) ? inverse : 0;
}

/** C's roundf: half away from zero, where Math.round takes half up. */
const roundAway = (x: number): number => (x < 0 ? -Math.floor(0.5 - x) : Math.floor(x + 0.5));

const Q8_0: BlockFormat = {
  blockBytes: 2 + BLOCK,
  encode(bytes, at, values, first) {
    let largest = 0;
    for (let i = 0; i < BLOCK; i++) largest = Math.max(largest, Math.abs(values[first + i]));
    const d = fround(largest / 127);
    const inverse = inverseOf(d);
    putHalf(bytes, at, d);
    for (let i = 0; i < BLOCK; i++) bytes[at + 2 + i] = roundAway(fround(values[first + i] * inverse));
  },
  decode(values, first, bytes, at) {
    const d = getHalf(bytes, at);
    for (let i = 0; i < BLOCK; i++) values[first + i] = ((bytes[at + 2 + i] << 24) >> 24) * d;
  },
};

const Q4_0: BlockFormat = {
  blockBytes: 2 + HALF_BLOCK,
  encode(bytes, at, values, first) {
    let largest = 0;
    let signed = 0;
    for (let i = 0; i < BLOCK; i++) {
      const x = values[first + i];
      if (Math.abs(x) > largest) {
        largest = Math.abs(x);
        signed = x;
      }
    }
    const d = signed / -8;
    const inverse = inverseOf(d);
    putHalf(bytes, at, d);
    const code = (x: number): number => Math.min(15, Math.trunc(fround(fround(x * inverse) + 8.5)));
    for (let i = 0; i < HALF_BLOCK; i++) {
      bytes[at + 2 + i] = code(values[first + i]) | (code(values[first + HALF_BLOCK + i]) << 4);
    }
  },
  decode(values, first, bytes, at) {
    const d = getHalf(bytes, at);
    for (let i = 0; i < HALF_BLOCK; i++) {
      values[first + i] = ((bytes[at + 2 + i] & 15) - 8) * d;
      values[first + HALF_BLOCK + i] = ((bytes[at + 2 + i] >> 4) - 8) * d;
    }
  },
};

const FORMATS = { q8_0: Q8_0, q4_0: Q4_0 };

/** Throws UnsupportedError unless blocks fill a head, as ggml asserts. */
function bytesFor(format: BlockFormat, shape: TensorShape): number {
  if (shape.headDim % BLOCK !== 0) {
    throw new UnsupportedError(`shape.headDim: ggml blocks need a multiple of ${BLOCK}, got ${shape.headDim}`);
  }
  return (elementCount(shape) / BLOCK) * format.blockBytes;
}

export function ggml(kind: "key" | "value", type: "q8_0" | "q4_0"): Baseline {
  const format = FORMATS[type];
  return {
    name: `${kind === "key" ? "K" : "V"} ggml ${type}`,
    kind,
    encode(values, shape) {
      checkTensor(values, shape);
      const bytes = new Uint8Array(bytesFor(format, shape));
      for (let first = 0, at = 0; first < values.length; first += BLOCK, at += format.blockBytes) {
        format.encode(bytes, at, values, first);
      }
      return bytes;
    },
    decode(bytes, shape) {
      checkBytes(bytes, bytesFor(format, shape), shape);
      const values = new Float32Array(elementCount(shape));
      for (let first = 0, at = 0; first < values.length; first += BLOCK, at += format.blockBytes) {
        format.decode(values, first, bytes, at);
      }
      return values;
    },
  };
}
