/**
 * The smallest change worth measuring: every token of every head rounded to 8 bits, scale in f16 (largest / 127). What
 * it costs is the floor under every other row: on quantized weights it is not small, for reasons of the weights.
 *
 *   bytes   scales (heads, tokens) f16 | codes (heads, tokens, headDim) i8
 */
import { type Baseline, checkBytes, checkTensor, elementCount, type TensorShape } from "../../baselines/baseline.ts";
import { fromHalf, toHalf } from "../../codec/half.ts";

const bytesFor = (shape: TensorShape): number => 2 * shape.heads * shape.tokens + elementCount(shape);

export const rounding = (kind: "key" | "value"): Baseline => ({
  name: `${kind === "key" ? "K" : "V"} 8-bit rounding`,
  kind,
  encode(values, shape) {
    checkTensor(values, shape);
    const bytes = new Uint8Array(bytesFor(shape));
    const view = new DataView(bytes.buffer);
    const rows = shape.heads * shape.tokens;
    for (let row = 0, at = 0; row < rows; row++) {
      const end = at + shape.headDim;
      let largest = 0;
      for (let i = at; i < end; i++) largest = Math.max(largest, Math.abs(values[i]));
      const bits = toHalf(largest / 127);
      const scale = fromHalf(bits);
      view.setUint16(2 * row, bits, true);
      for (; at < end; at++) {
        const code = scale > 0 ? Math.round(values[at] / scale) : 0;
        view.setInt8(2 * rows + at, Math.max(-127, Math.min(127, code)));
      }
    }
    return bytes;
  },
  decode(bytes, shape) {
    checkBytes(bytes, bytesFor(shape), shape);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const rows = shape.heads * shape.tokens;
    const values = new Float32Array(elementCount(shape));
    for (let row = 0, at = 0; row < rows; row++) {
      const scale = fromHalf(view.getUint16(2 * row, true));
      for (const end = at + shape.headDim; at < end; at++) values[at] = scale * view.getInt8(2 * rows + at);
    }
    return values;
  },
});
