/**
 * KIVI: asymmetric min-max quantization, keys a channel at a time and values a token at a time.
 *
 * Keys have a few channels that are large for every token, so a group of keys is 32 tokens of one channel; values
 * have no such channels, so a group of values is 32 channels of one token. A group stores its minimum and its step
 * (range / (2^bits - 1)) in f16: 32 bits, one bit an element.
 * Z. Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", 2024, arXiv 2402.02750, section 3.
 *
 * Two kindnesses to the peer: codes are chosen against the rounded minimum and step, so f16 costs almost nothing; and a
 * last group that is not full is a smaller group, where KIVI would keep those tokens in full precision.
 *
 *   bytes    groups (groupCount, 2) f16: minimum, step | codes (heads, tokens, headDim), dense
 *   groups   keys (heads, ceil(tokens / 32), headDim); values (heads, tokens, ceil(headDim / 32))
 */
import { type Baseline, checkBytes, checkTensor, elementCount, type TensorShape } from "./baseline.ts";
import { getHalf, packBits, packedBytes, putHalf, unpackBits } from "./bits.ts";

const GROUP = 32;
const GROUP_BYTES = 4;

/** Elements of group number `index`: first, first + stride, … */
interface Group {
  first: number;
  stride: number;
  count: number;
}

type GroupOf = (index: number, shape: TensorShape) => Group;

const groupCounts = {
  key: ({ heads, tokens, headDim }: TensorShape): number => heads * Math.ceil(tokens / GROUP) * headDim,
  value: ({ heads, tokens, headDim }: TensorShape): number => heads * tokens * Math.ceil(headDim / GROUP),
};

const groupOf: Record<"key" | "value", GroupOf> = {
  key(index, { tokens, headDim }) {
    const runs = Math.ceil(tokens / GROUP);
    const token = (Math.floor(index / headDim) % runs) * GROUP;
    const head = Math.floor(index / (headDim * runs));
    const first = (head * tokens + token) * headDim + (index % headDim);
    return { first, stride: headDim, count: Math.min(GROUP, tokens - token) };
  },
  value(index, { headDim }) {
    const runs = Math.ceil(headDim / GROUP);
    const channel = (index % runs) * GROUP;
    const first = Math.floor(index / runs) * headDim + channel;
    return { first, stride: 1, count: Math.min(GROUP, headDim - channel) };
  },
};

/** Codes of one group; writes its minimum and step at `offsetBytes`. */
function encodeGroup(
  codes: Uint8Array,
  out: Uint8Array,
  offsetBytes: number,
  values: Float32Array,
  group: Group,
  top: number,
): void {
  const { first, stride } = group;
  const end = first + group.count * stride;
  let low = Infinity;
  let high = -Infinity;
  for (let i = first; i < end; i += stride) {
    const x = values[i];
    if (x < low) low = x;
    if (x > high) high = x;
  }
  const minimum = putHalf(out, offsetBytes, low);
  const step = putHalf(out, offsetBytes + 2, (high - low) / top);
  const inverse = step > 0 ? 1 / step : 0;
  for (let i = first; i < end; i += stride) {
    codes[i] = Math.min(top, Math.max(0, Math.round((values[i] - minimum) * inverse)));
  }
}

/** KIVI at 2 or 4 bits, groups of 32. */
export function kivi(kind: "key" | "value", bits: 2 | 4): Baseline {
  const top = 2 ** bits - 1;
  const sideBytes = (shape: TensorShape): number => groupCounts[kind](shape) * GROUP_BYTES;
  return {
    name: `${kind === "key" ? "K" : "V"} KIVI ${bits} bit, groups of ${GROUP}`,
    kind,
    encode(values, shape) {
      checkTensor(values, shape);
      const side = sideBytes(shape);
      const bytes = new Uint8Array(side + packedBytes(values.length, bits));
      const codes = new Uint8Array(values.length);
      for (let g = 0, at = 0; at < side; g++, at += GROUP_BYTES) {
        encodeGroup(codes, bytes, at, values, groupOf[kind](g, shape), top);
      }
      packBits(bytes, side, codes, bits);
      return bytes;
    },
    decode(bytes, shape) {
      const side = sideBytes(shape);
      checkBytes(bytes, side + packedBytes(elementCount(shape), bits), shape);
      const values = new Float32Array(elementCount(shape));
      const codes = unpackBits(bytes, side, values.length, bits);
      for (let g = 0, at = 0; at < side; g++, at += GROUP_BYTES) {
        const { first, stride, count } = groupOf[kind](g, shape);
        const minimum = getHalf(bytes, at);
        const step = getHalf(bytes, at + 2);
        for (let i = first; i < first + count * stride; i += stride) values[i] = minimum + codes[i] * step;
      }
      return values;
    },
  };
}
