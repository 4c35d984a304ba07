/** Queries of an ONNX model as outputs: on the real onnxruntime where it is there, refusals everywhere. */
import { describe, expect, it } from "vitest";
import { exposeQueries, queriesOf } from "../../src/engines/onnx-queries.ts";
import { bytesField, fieldsOf, integerField, joinBytes } from "../../src/engines/protobuf.ts";
import { FormatError, UnsupportedError } from "../../src/errors.ts";
import { loadOrt } from "../support/real-engines.ts";
import { TINY, tinyDecoder, tinyTokens } from "../support/tiny-decoder.ts";

const ort = loadOrt();
const WIDTH = TINY.num_attention_heads * TINY.head_dim;

async function run(model: Uint8Array, tokens: number[]) {
  const session = await ort!.InferenceSession.create(model);
  const int64 = (values: number[], dims = [1, values.length]) =>
    new ort!.Tensor("int64", BigInt64Array.from(values, BigInt), dims);
  const names = [0, 1].flatMap((layer) => ["key", "value"].map((part) => `past_key_values.${layer}.${part}`));
  const dims = [1, TINY.num_key_value_heads, 0, TINY.head_dim];
  const past = names.map((name) => [name, new ort!.Tensor("float32", new Float32Array(0) as never, dims)]);
  const feeds = {
    input_ids: int64(tokens),
    attention_mask: int64(tokens.map(() => 1)),
    num_logits_to_keep: int64([1], []),
  };
  const outputs = await session.run({ ...feeds, ...Object.fromEntries(past) });
  await session.release();
  return outputs;
}

describe.skipIf(!ort)("queries of a tiny decoder", () => {
  it("come out beside what came out before, before RoPE", async () => {
    const model = tinyDecoder();
    const { model: exposed, outputs, beforeRope } = exposeQueries(model);
    expect(outputs).toMatchObject([0, 1].map(() => ({ queryHeads: 4, packedKvHeads: 2 })));
    expect(beforeRope).toBe(true);
    const names = outputs.map(({ name }) => name);
    const tokens = [...tinyTokens(9), 77];
    const [plain, all, alone] = [await run(model, tokens), await run(exposed, tokens), await run(exposed, [77])];
    expect(Object.keys(all).sort()).toEqual([...Object.keys(plain), ...names].sort());
    expect(all.logits.data).toEqual(plain.logits.data);
    const [queries, one] = [all, alone].map((got) => queriesOf(outputs[0], got[names[0]] as never));
    expect(queries).toHaveLength(10 * WIDTH);
    // In layer 0 a token's query hangs on the token alone, wherever it stands: it has not been rotated.
    one.forEach((x, i) => {
      expect(queries[9 * WIDTH + i]).toBeCloseTo(x, 5);
    });
    // Of a lone token behind nothing, keys come behind the queries in the same rows, and are those of the cache.
    const row = alone[names[0]].data as Float32Array;
    (alone["present.0.key"].data as Float32Array).forEach((x, i) => {
      expect(row[WIDTH + i]).toBeCloseTo(x, 5);
    });
  });
});

describe("exposeQueries", () => {
  const graphOf = (nodes: Uint8Array[]) =>
    bytesField(
      7,
      nodes.map((node) => bytesField(1, [node])),
    );
  const attention = (...inputs: string[]) => attentionWith([], inputs);
  const rotating = (...inputs: string[]) => attentionWith([["do_rotary", 1]], inputs);
  const attentionWith = (rotary: [string, number][], inputs: string[]) =>
    joinBytes([
      ...inputs.map((input) => bytesField(1, input)),
      bytesField(4, "GroupQueryAttention"),
      ...[["num_heads", 4] as const, ["kv_num_heads", 2] as const, ...rotary].map(([name, value]) =>
        bytesField(5, [bytesField(1, name), integerField(3, value)]),
      ),
    ]);

  it("adds to the end and leaves the model's bytes as they are", () => {
    const model = graphOf([attention("q0", "k0"), bytesField(4, "MatMul"), attention("q1", "")]);
    const { model: exposed, outputs, beforeRope } = exposeQueries(model);
    expect(outputs).toEqual([
      { name: "q0", queryHeads: 4, packedKvHeads: 0 },
      { name: "q1", queryHeads: 4, packedKvHeads: 2 },
    ]);
    expect(beforeRope).toBe(false);
    expect(exposed.subarray(0, model.length)).toEqual(model);
    expect([...fieldsOf(exposed, "model")].map(({ number }) => number)).toEqual([7, 7]);
  });

  it("takes the queries out of packed rows", () => {
    const tensor = { data: Float32Array.from({ length: 16 }, (_, i) => i), dims: [1, 2, 8] };
    expect([...queriesOf({ name: "q", queryHeads: 2, packedKvHeads: 1 }, tensor)]).toEqual([0, 1, 2, 3, 8, 9, 10, 11]);
    expect([...queriesOf({ name: "q", queryHeads: 2, packedKvHeads: 0 }, tensor)]).toEqual([...tensor.data]);
  });

  it.each<[string, Uint8Array, typeof FormatError | typeof UnsupportedError, string]>([
    ["no graph", integerField(1, 9), FormatError, "m: expected an ONNX model with a graph, got none"],
    ["no such node", graphOf([bytesField(4, "MatMul")]), UnsupportedError, "m: expected nodes GroupQueryAttention"],
    ["some that rotate", graphOf([attention("a", ""), rotating("b", "")]), UnsupportedError, "or none, got 1 of 2"],
    ["cut short", graphOf([attention("q", "k")]).subarray(0, 9), FormatError, "m: protobuf: expected"],
    ["no protobuf", new Uint8Array(12).fill(255), FormatError, "m: protobuf: expected a varint, got"],
  ])("refuses %s", (_, model, kind, message) => {
    expect(() => exposeQueries(model, "m")).toThrow(kind);
    expect(() => exposeQueries(model, "m")).toThrow(message);
  });
});
