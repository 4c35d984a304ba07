/**
 * MatMul, Softmax, MatMul as an ONNX model, written field by field (onnx.proto3), for the peer onnxruntime-node:
 * queries (kvHeads, shared, headDim), scaled · keys (kvHeads, headDim, tokens) -> softmax -> · values (kvHeads, tokens, headDim).
 */
const FLOAT = 1;
const OPSET = 13;

export interface AttentionShape {
  kvHeads: number;
  shared: number;
  headDim: number;
  tokens: number;
}

type Field = [number: number, value: number | string | Uint8Array];

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  bytes.push(rest);
  return bytes;
}

/** A protobuf message: integers as varints, strings and messages with their length. */
function message(fields: Field[]): Uint8Array {
  const bytes: number[] = [];
  for (const [number, value] of fields) {
    if (typeof value === "number") {
      bytes.push(...varint(number * 8), ...varint(value));
    } else {
      const content = typeof value === "string" ? new TextEncoder().encode(value) : value;
      bytes.push(...varint(number * 8 + 2), ...varint(content.length), ...content);
    }
  }
  return Uint8Array.from(bytes);
}

const node = (type: string, inputs: string[], output: string): Uint8Array =>
  message([...inputs.map((name): Field => [1, name]), [2, output], [4, type]]);

function tensor(name: string, dims: number[]): Uint8Array {
  const shape = message(dims.map((dim): Field => [1, message([[1, dim]])]));
  const type = message([[1, message([[1, FLOAT], [2, shape]])]]); // biome-ignore format: a message in a message
  return message([[1, name], [2, type]]); // biome-ignore format: a field a pair
}

export function onnxAttention({ kvHeads, shared, headDim, tokens }: AttentionShape): Uint8Array {
  const graph = message([
    [1, node("MatMul", ["queries", "keys"], "scores")],
    [1, node("Softmax", ["scores"], "weights")],
    [1, node("MatMul", ["weights", "values"], "out")],
    [2, "attention"],
    [11, tensor("queries", [kvHeads, shared, headDim])],
    [11, tensor("keys", [kvHeads, headDim, tokens])],
    [11, tensor("values", [kvHeads, tokens, headDim])],
    [12, tensor("out", [kvHeads, shared, headDim])],
  ]);
  return message([[1, 8], [7, graph], [8, message([[2, OPSET]])]]); // biome-ignore format: a field a pair
}
