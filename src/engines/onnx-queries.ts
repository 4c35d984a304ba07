/**
 * Queries of an ONNX model as outputs beside its own, so that a metric can be made of them. Keys and values come out of
 * such models, queries do not. Field numbers: onnx/onnx.proto of ONNX 1.16 (ModelProto, GraphProto, NodeProto,
 * AttributeProto, ValueInfoProto).
 */
import { FormatError, UnsupportedError } from "../errors.ts";
import { bytesField, type Field, fieldsOf, joinBytes } from "./protobuf.ts";

const GRAPH = 7;
const [NODE, OUTPUT] = [1, 12];
const [INPUT, OP_TYPE, ATTRIBUTE] = [1, 4, 5];
const ATTENTION = "GroupQueryAttention";

/** Where the queries of a layer come out. */
export interface QueryOutput {
  /** An output, (batch, tokens, width) of the model's own type. */
  name: string;
  queryHeads: number;
  /** kv heads whose keys, then values, stand behind the queries in the same rows; 0 where rows hold queries alone. */
  packedKvHeads: number;
}

export interface QueryOutputs {
  /** The model with these outputs more. External data stays in its own files. */
  model: Uint8Array;
  /** A layer each, in the graph's order. */
  outputs: QueryOutput[];
  /** True where the attention nodes rotate by themselves, so that these are queries before RoPE. */
  beforeRope: boolean;
}

/**
 * Adds what the queries of every com.microsoft.GroupQueryAttention come from to the outputs of a model. Throws
 * FormatError for what is no ONNX file, UnsupportedError where there is no such node or only some rotate.
 */
export function exposeQueries(bytes: Uint8Array, name = "model"): QueryOutputs {
  const graphs = [...fieldsOf(bytes, name)].filter(({ number }) => number === GRAPH);
  if (graphs.length === 0) throw new FormatError(`${name}: expected an ONNX model with a graph, got none`, 0);
  const nodes = graphs.flatMap((graph) => attentionNodes(graph.bytes, name));
  if (nodes.length === 0) {
    throw new UnsupportedError(`${name}: expected nodes ${ATTENTION}, whose queries can be shown, got none`);
  }
  const rotating = nodes.filter(({ rotates }) => rotates).length;
  if (rotating !== 0 && rotating !== nodes.length) {
    throw new UnsupportedError(
      `${name}: expected all ${ATTENTION} to rotate or none, got ${rotating} of ${nodes.length}`,
    );
  }
  // A message behind another of its kind is merged with it, lists one behind the other: nothing is copied or shifted.
  // An output without a type has the one that its node gives.
  const added = nodes.map(({ output }) => bytesField(OUTPUT, [bytesField(1, output.name)]));
  return {
    model: joinBytes([bytes, bytesField(GRAPH, added)]),
    outputs: nodes.map(({ output }) => output),
    beforeRope: rotating > 0,
  };
}

/** Queries, (tokens, queryHeads * headDim), of the rows of an output with a batch of 1. */
export function queriesOf(
  { queryHeads, packedKvHeads }: QueryOutput,
  { data, dims }: { data: Float32Array; dims: readonly number[] },
): Float32Array {
  const width = dims[dims.length - 1];
  const kept = (width / (queryHeads + 2 * packedKvHeads)) * queryHeads;
  const rows = data.length / width;
  const out = new Float32Array(rows * kept);
  for (let row = 0; row < rows; row++) out.set(data.subarray(row * width, row * width + kept), row * kept);
  return out;
}

function attentionNodes(graph: Uint8Array, name: string): { output: QueryOutput; rotates: boolean }[] {
  const nodes = [...fieldsOf(graph, name)].filter(({ number }) => number === NODE);
  return nodes.flatMap((node) => {
    const fields = [...fieldsOf(node.bytes, name)];
    if (!fields.some((field) => field.number === OP_TYPE && textOf(field) === ATTENTION)) return [];
    const inputs = fields.filter(({ number }) => number === INPUT).map(textOf);
    const attributes = fields.filter(({ number }) => number === ATTRIBUTE);
    const integers = new Map(attributes.map(({ bytes }) => integerOf([...fieldsOf(bytes, name)])));
    const [queryHeads, kvHeads] = ["num_heads", "kv_num_heads"].map((key) => integers.get(key) ?? 0);
    const output = { name: inputs[0], queryHeads, packedKvHeads: inputs[1] ? 0 : kvHeads };
    return [{ output, rotates: integers.get("do_rotary") === 1 }];
  });
}

/** Name and integer of an AttributeProto: name 1, i 3. */
function integerOf(fields: Field[]): [string, number | undefined] {
  const name = fields.find(({ number }) => number === 1);
  return [name ? textOf(name) : "", fields.find(({ number }) => number === 3)?.value];
}

const textOf = ({ bytes }: Field): string => new TextDecoder().decode(bytes);
