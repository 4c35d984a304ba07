/**
 * What a peer must do to be compared: turn a tensor of one layer into real bytes, and those bytes alone back into a
 * tensor. Nothing is estimated: bits an element are counted on the bytes, scales and norms included.
 */
import { expectInteger } from "../errors.ts";

/** A cache tensor of one layer: (heads, tokens, headDim) f32, row-major; keys after RoPE, as engines cache them. */
export interface TensorShape {
  heads: number;
  tokens: number;
  headDim: number;
}

export interface Baseline {
  /** As `reference/compare.py` prints it: "K TurboQuant 3". */
  name: string;
  kind: "key" | "value";
  /** Bytes of values (heads, tokens, headDim). Throws a RangeError for values that are not finite or do not fit f16. */
  encode(values: Float32Array, shape: TensorShape): Uint8Array;
  /** The tensor (heads, tokens, headDim) that those bytes stand for. */
  decode(bytes: Uint8Array, shape: TensorShape): Float32Array;
}

export const elementCount = (shape: TensorShape): number => shape.heads * shape.tokens * shape.headDim;

/** Bits an element: all that the method stores, side information included. */
export const bitsPerElement = (bytes: Uint8Array, shape: TensorShape): number => {
  const elements = elementCount(shape);
  return elements ? (8 * bytes.length) / elements : 0;
};

/** Largest finite f16: what a stored scale, minimum or norm may need to hold. */
const MAX_HALF = 65504;

/** Throws a RangeError unless `values` has that shape and every one of them is finite and within f16. */
export function checkTensor(values: Float32Array, shape: TensorShape): void {
  checkShape(shape);
  if (values.length !== elementCount(shape)) {
    throw new RangeError(`values.length: expected ${elementCount(shape)} for its shape, got ${values.length}`);
  }
  for (let i = 0; i < values.length; i++) {
    if (!(Math.abs(values[i]) <= MAX_HALF)) {
      throw new RangeError(`values[${i}]: expected a number from -${MAX_HALF} to ${MAX_HALF}, got ${values[i]}`);
    }
  }
}

/** Throws a RangeError unless `bytes` is exactly as long as the method makes it for `shape`. */
export function checkBytes(bytes: Uint8Array, expectedBytes: number, shape: TensorShape): void {
  checkShape(shape);
  if (bytes.length !== expectedBytes) {
    throw new RangeError(`bytes.length: expected ${expectedBytes} for the shape, got ${bytes.length}`);
  }
}

function checkShape(shape: TensorShape): void {
  expectInteger("shape.heads", shape.heads, 0, 2 ** 16);
  expectInteger("shape.tokens", shape.tokens, 0, 2 ** 24);
  expectInteger("shape.headDim", shape.headDim, 1, 2 ** 16);
}
