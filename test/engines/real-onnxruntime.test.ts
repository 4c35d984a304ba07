/** The adapter on the real onnxruntime: a tiny decoder goes on from its own cache, and from the coded one. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compress } from "../../src/codec/compress.ts";
import { frequenciesOf } from "../../src/codec/rotary.ts";
import { fromTensors, rotaryOfConfig, toTensors } from "../../src/engines/onnxruntime.ts";
import { DisposedError, UnsupportedError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { failureOf } from "../support/failure.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { loadOrt, type RealTensor, type Session } from "../support/real-engines.ts";
import { TINY, tinyDecoder, tinyTokens } from "../support/tiny-decoder.ts";

const ort = loadOrt();
const PROMPT = 200;
const KV = { kvHeads: TINY.num_key_value_heads, headDim: TINY.head_dim };

/** One run over `tokens` after the cache, logits of the last one. */
async function run(session: Session, tokens: number[], past: Record<string, RealTensor>, batch = 1) {
  const held = Object.values(past)[0].dims[2];
  const repeat = (values: number[]) => Array.from({ length: batch }, () => values).flat();
  const matrix = (values: number[]) =>
    new ort!.Tensor("int64", BigInt64Array.from(repeat(values), BigInt), [batch, values.length]);
  const mask = new Array<number>(held + tokens.length).fill(1);
  const keep = new ort!.Tensor("int64", BigInt64Array.of(1n), []);
  return session.run({ input_ids: matrix(tokens), attention_mask: matrix(mask), num_logits_to_keep: keep, ...past });
}

function emptyPast(type: "float32" | "float16", batch = 1): Record<string, RealTensor> {
  const data = () => (type === "float32" ? new Float32Array(0) : halvesOf(0));
  const names = [0, 1].flatMap((layer) => ["key", "value"].map((part) => `past_key_values.${layer}.${part}`));
  const dims = [batch, KV.kvHeads, 0, KV.headDim];
  return Object.fromEntries(names.map((name) => [name, new ort!.Tensor(type, data() as never, dims)]));
}

/** What onnxruntime wants float16 in: Float16Array where the host has it. */
function halvesOf(length: number): ArrayBufferView {
  const { Float16Array } = globalThis as { Float16Array?: new (length: number) => ArrayBufferView };
  return Float16Array ? new Float16Array(length) : new Uint16Array(length);
}

const best = ({ logits }: Record<string, RealTensor>): number => {
  const row = logits.data as Float32Array;
  return row.reduce((top, x, i) => (x > row[top] ? i : top), 0);
};

/** Greedy tokens after a cache that holds all but the last of the prompt. */
async function continuation(session: Session, cache: Record<string, RealTensor>, last: number, count = 12) {
  const tokens: number[] = [];
  let past = cache;
  for (let token = last; tokens.length < count; tokens.push(token)) {
    const outputs = await run(session, [token], past);
    token = best(outputs);
    past = Object.fromEntries(
      Object.entries(outputs).flatMap(([name, tensor]) =>
        name === "logits" ? [] : [[name.replace("present", "past_key_values"), tensor]],
      ),
    );
  }
  return tokens;
}

describe.skipIf(!ort).each(["float32", "float16"] as const)("onnxruntime, a tiny decoder with a %s cache", (type) => {
  const prompt = tinyTokens(PROMPT);
  const facts = { rotary: rotaryOfConfig(TINY), tokens: prompt.slice(0, -1) };
  let runtime: Runtime;
  let session: Session;
  let outputs: Record<string, RealTensor>;
  let exact: number[];
  beforeAll(async () => {
    runtime = await PLATFORMS[2].create();
    session = await ort!.InferenceSession.create(tinyDecoder(type));
    outputs = await run(session, prompt.slice(0, -1), emptyPast(type));
    const { logits: _, ...present } = outputs;
    const past = Object.entries(present).map(([name, tensor]) => [name.replace("present", "past_key_values"), tensor]);
    exact = await continuation(session, Object.fromEntries(past), prompt[PROMPT - 1]);
  });
  afterAll(() => session?.release());

  const restored = async (options: object) => {
    const { source, others } = fromTensors(outputs, facts);
    expect(Object.keys(others)).toEqual(["logits"]);
    expect(source.geometry).toEqual({ layerCount: 2, ...KV });
    return toTensors(runtime, await compress(runtime, source, options), { Tensor: ort!.Tensor });
  };

  it("tokens depend on the cache", async () => {
    expect(new Set(exact).size).toBeGreaterThan(3);
    const others = await run(session, tinyTokens(PROMPT).reverse().slice(1), emptyPast(type));
    const { logits: _, ...present } = others;
    const past = Object.entries(present).map(([name, tensor]) => [name.replace("present", "past_key_values"), tensor]);
    expect(await continuation(session, Object.fromEntries(past), prompt[PROMPT - 1])).not.toEqual(exact);
  });

  it("a cache exact but for one token goes on with the same tokens; exact rows are the same bits", async () => {
    const cache = await restored({ sinks: 100, recent: 98, keyBits: 8, valueBits: 8 });
    for (const [name, tensor] of Object.entries(cache)) {
      expect(tensor.type).toBe(type);
      const [got, expected] = [tensor, outputs[name.replace("past_key_values", "present")]].map(({ data }) => data);
      expect(got.buffer.byteLength).toBe(got.byteLength); // owns its buffer
      const rowBytes = got.byteLength / KV.kvHeads / (PROMPT - 1);
      for (let row = 0; row < KV.kvHeads * (PROMPT - 1); row++) {
        if (row % (PROMPT - 1) === 100) continue;
        const [own, its] = [got, expected].map((data) => bytesOf(data).subarray(row * rowBytes, (row + 1) * rowBytes));
        if (Buffer.compare(own, its) !== 0) expect(own, `${name}, row ${row}`).toEqual(its);
      }
    }
    expect(await continuation(session, cache, prompt[PROMPT - 1])).toEqual(exact);
  });

  it("a cache in 8 bits goes on with the same tokens", async () => {
    const cache = await restored({ sinks: 4, recent: 8, keyBits: 8, valueBits: 8 });
    const got = await continuation(session, cache, prompt[PROMPT - 1]);
    expect(got.filter((token, i) => token === exact[i]).length).toBeGreaterThanOrEqual(10);
  });

  it("a batch of 2, an empty cache and disposed tensors are refused", async () => {
    const two = await run(session, prompt.slice(0, 8), emptyPast(type, 2), 2);
    const batch = await failureOf(async () => fromTensors(two, facts));
    expect(batch).toBeInstanceOf(UnsupportedError);
    expect(batch.message).toBe("layer 0 key: expected a batch of 1, got 2 in [2, 2, 8, 32]");
    const empty = await failureOf(async () => fromTensors(emptyPast(type), facts));
    expect(empty).toBeInstanceOf(RangeError);
    expect(empty.message).toMatch(/layer 0 key: expected at least one token, got an empty cache \[1, 2, 0, 32\]/);
    const some = await run(session, prompt.slice(0, 120), emptyPast(type));
    some["present.0.value"].dispose();
    const { source } = fromTensors(some, { rotary: facts.rotary });
    const disposed = await failureOf(() => compress(runtime, source));
    expect(disposed).toBeInstanceOf(DisposedError);
    expect(disposed.message).toBe("layer 0 value: expected a tensor with data, got one disposed before");
  });
});

const bytesOf = (data: ArrayBufferView): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

it.skipIf(!ort)("keys in the cache are after RoPE, in halves, at the config's frequencies", async () => {
  // One token at position 0 and at position 9, after others: its keys in layer 0 depend on nothing but the position.
  const session = await ort!.InferenceSession.create(tinyDecoder());
  const at = async (tokens: number[]) =>
    (await run(session, tokens, emptyPast("float32")))["present.0.key"].data as Float32Array;
  const [first, later] = [await at([77]), await at([...tinyTokens(9), 77])];
  const [rotary, half] = [rotaryOfConfig(TINY), KV.headDim / 2];
  expect(rotary).toEqual({ layout: "half-split", frequencies: frequenciesOf(10000, half) });
  for (let pair = 0; pair < half; pair++) {
    const [cos, sin] = [Math.cos, Math.sin].map((turn) => turn(9 * rotary.frequencies[pair]));
    const [x, y] = [first[pair], first[half + pair]];
    expect(later[9 * KV.headDim + pair]).toBeCloseTo(x * cos - y * sin, 4);
    expect(later[9 * KV.headDim + half + pair]).toBeCloseTo(x * sin + y * cos, 4);
  }
  await session.release();
});
