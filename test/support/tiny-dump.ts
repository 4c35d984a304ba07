/** Safetensors bytes put together by hand, so that they can be wrong in one place. */
import { toHalf } from "../../src/codec/half.ts";
import { byteLengthOf, type Dtype } from "../../src/engines/safetensors.ts";
import { noise } from "./noise.ts";

/** A file of the given header (an object, or its text) and data. `lengthBytes` may lie about the header's length. */
export function safetensorsBytes(
  header: unknown,
  data = new Uint8Array(0),
  lengthBytes?: bigint,
): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, lengthBytes ?? BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

export interface TinyTensor {
  dtype: Dtype;
  shape: number[];
  /** Noise of the given type unless given; zeros where that is no type of a cache. */
  bytes?: Uint8Array;
}

/** Two layers of 2 kv heads, 6 tokens and head dim 32 in f16, with 3 queries of 4 query heads; change it as you like. */
export class TinyDump {
  metadata: Record<string, string> = { model: "tiny", rope_theta: "10000" };
  tensors: Record<string, TinyTensor> = {};

  constructor({ layers = [0, 1], kvHeads = 2, tokens = 6, headDim = 32, dtype = "F16" as Dtype } = {}) {
    for (const n of layers) {
      this.tensors[`layers.${n}.key`] = { dtype, shape: [kvHeads, tokens, headDim] };
      this.tensors[`layers.${n}.value`] = { dtype, shape: [kvHeads, tokens, headDim] };
      this.tensors[`layers.${n}.query`] = { dtype, shape: [2 * kvHeads, 3, headDim] };
    }
  }

  /** The bytes of one tensor as they will be in the file. */
  data(name: string): Uint8Array {
    const { dtype, shape, bytes } = this.tensors[name];
    const count = shape.reduce((product, n) => product * n, 1);
    return bytes ?? elements(dtype, noise(count, 1 + Object.keys(this.tensors).indexOf(name)));
  }

  /** The file: tensors one after the other. */
  bytes(): Uint8Array<ArrayBuffer> {
    const header: Record<string, unknown> = { __metadata__: this.metadata };
    const parts: number[] = [];
    for (const [name, { dtype, shape }] of Object.entries(this.tensors)) {
      const data = this.data(name);
      header[name] = { dtype, shape, data_offsets: [parts.length, parts.length + data.length] };
      for (const byte of data) parts.push(byte);
    }
    return safetensorsBytes(header, Uint8Array.from(parts));
  }
}

function elements(dtype: Dtype, values: Float32Array): Uint8Array {
  const bitsOf = new Uint32Array(values.buffer);
  if (dtype === "F32") return new Uint8Array(values.buffer);
  if (dtype === "F16") return new Uint8Array(Uint16Array.from(values, toHalf).buffer);
  if (dtype === "BF16") return new Uint8Array(Uint16Array.from(bitsOf, (bits) => bits >>> 16).buffer);
  return new Uint8Array(byteLengthOf(dtype, [values.length]));
}
