/** ONNX files written by hand: nodes, constants, inputs and outputs of one graph (onnx/onnx.proto of ONNX 1.16). */
import { bytesField, floatField, integerField, joinBytes } from "../../src/engines/protobuf.ts";

/** By TensorProto.DataType. */
export const TYPES = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, float16: 10 } as const;
export type OnnxType = keyof typeof TYPES;
export const MICROSOFT = "com.microsoft";

/** Attributes: integers of the host are ints; floats are wrapped, because 1 is one too. */
export type Attributes = Record<string, number | { float: number } | { ints: number[] }>;

/** Fields of ModelProto, GraphProto, NodeProto, TensorProto, AttributeProto, ValueInfoProto that are written. */
export class OnnxGraph {
  #nodes: Uint8Array[] = [];
  #constants = new Map<string, Uint8Array>();
  #ends: Uint8Array[] = [];

  /** Adds a node and gives the name of its first output. An input "" is left out. */
  node(op: string, inputs: string[], outputs: string | string[], attributes: Attributes = {}, domain = ""): string {
    const names = [outputs].flat();
    const fields = [
      ...inputs.map((name) => bytesField(1, name)),
      ...names.map((name) => bytesField(2, name)),
      bytesField(3, names[0]),
      bytesField(4, op),
      ...Object.entries(attributes).map(([name, value]) => bytesField(5, attribute(name, value))),
      bytesField(7, domain),
    ];
    this.#nodes.push(bytesField(1, fields));
    return names[0];
  }

  /** Adds a constant once and gives its name. */
  constant(name: string, type: OnnxType, dims: number[], data: ArrayBufferView): string {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (!this.#constants.has(name)) {
      const sizes = dims.map((size) => integerField(1, size));
      const fields = [...sizes, integerField(2, TYPES[type]), bytesField(8, name), bytesField(9, bytes)];
      this.#constants.set(name, bytesField(5, fields));
    }
    return name;
  }

  floats = (name: string, data: Float32Array, dims = [data.length]): string =>
    this.constant(name, "float32", dims, data);
  /** A list of int64. */
  integers = (...values: number[]): string =>
    this.constant(`i${values.join("_")}`, "int64", [values.length], BigInt64Array.from(values, BigInt));

  input = (name: string, type: OnnxType, dims: (number | string)[]): void => this.#end(11, name, type, dims);
  output = (name: string, type: OnnxType, dims: (number | string)[]): void => this.#end(12, name, type, dims);

  #end(field: number, name: string, type: OnnxType, dims: (number | string)[]): void {
    const shape = dims.map((dim) =>
      bytesField(1, [typeof dim === "number" ? integerField(1, dim) : bytesField(2, dim)]),
    );
    const tensor = bytesField(1, [integerField(1, TYPES[type]), bytesField(2, shape)]);
    this.#ends.push(bytesField(field, [bytesField(1, name), bytesField(2, [tensor])]));
  }

  /** The file: IR version 10, opset 17 and the operators of onnxruntime. */
  bytes(name: string): Uint8Array {
    const graph = [...this.#nodes, bytesField(2, name), ...this.#constants.values(), ...this.#ends];
    const opset = (domain: string, version: number) => bytesField(8, [bytesField(1, domain), integerField(2, version)]);
    return joinBytes([integerField(1, 10), opset("", 17), opset(MICROSOFT, 1), bytesField(7, graph)]);
  }
}

/** AttributeProto: name 1, f 2, i 3, ints 8, type 20 (FLOAT 1, INT 2, INTS 7). */
function attribute(name: string, value: Attributes[string]): Uint8Array[] {
  // Negative integers are varints of 64 bits, which none here needs but an axis, and that is counted from the front.
  if (typeof value === "number") return [bytesField(1, name), integerField(3, value), integerField(20, 2)];
  if ("float" in value) return [bytesField(1, name), floatField(2, value.float), integerField(20, 1)];
  return [bytesField(1, name), ...value.ints.map((x) => integerField(8, x)), integerField(20, 7)];
}
