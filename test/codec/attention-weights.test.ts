/** How much each token is looked at, against softmax written out. */
import { beforeAll, describe, expect, it } from "vitest";
import { attentionWeights } from "../../src/codec/attention-weights.ts";
import { putF32 } from "../../src/codec/tensors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { worst } from "../support/linear-algebra.ts";
import { noise } from "../support/noise.ts";
import { PLATFORMS } from "../support/platforms.ts";

const DIM = 32;

interface Setting {
  kvHeads: number;
  queryHeads: number;
  tokens: number;
  count: number;
  firstToken: number;
}
interface Tensors {
  keys: Float32Array;
  queries: Float32Array;
}

const tensorsOf = ({ kvHeads, queryHeads, tokens, count }: Setting): Tensors => ({
  keys: noise(kvHeads * tokens * DIM, 2),
  queries: noise(queryHeads * count * DIM, 3).map((x) => 3 * x),
});

function weightsOn(runtime: Runtime, setting: Setting, { keys, queries } = tensorsOf(setting)): Float32Array {
  const { kvHeads, tokens } = setting;
  return runtime.heap.scratch((frame) => {
    const [keysPtr, ptr] = [putF32(runtime.heap, frame, keys), putF32(runtime.heap, frame, queries)];
    return attentionWeights(runtime, { layerCount: 1, kvHeads, headDim: DIM }, keysPtr, tokens, { ...setting, ptr });
  });
}

/** 0.2 + 0.8 a of the last 64 queries, a of mean 1 and at most 50. */
function plain({ kvHeads, queryHeads, tokens, count, firstToken }: Setting, { keys, queries }: Tensors): Float64Array {
  const received = new Float64Array(tokens);
  for (let head = 0; head < queryHeads; head++) {
    const kv = Math.floor(head / (queryHeads / kvHeads));
    for (let i = Math.max(0, count - 64); i < count; i++) {
      const seen = Math.min(tokens, firstToken + i + 1);
      const exps = Array.from({ length: seen }, (_, t) => {
        let score = 0;
        for (let d = 0; d < DIM; d++)
          score += queries[(head * count + i) * DIM + d] * keys[(kv * tokens + t) * DIM + d];
        return Math.exp(score / Math.sqrt(DIM));
      });
      const sum = exps.reduce((a, b) => a + b, 0);
      exps.forEach((x, t) => {
        received[t] += x / sum;
      });
    }
  }
  const mean = received.reduce((a, b) => a + b, 0) / tokens;
  return received.map((a) => 0.2 + 0.8 * Math.min(50, a / mean));
}

describe.each(PLATFORMS)("attention weights on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  it.each<[string, Setting]>([
    ["one head and one query", { kvHeads: 1, queryHeads: 1, tokens: 5, count: 1, firstToken: 4 }],
    ["three query heads a kv head", { kvHeads: 2, queryHeads: 6, tokens: 37, count: 9, firstToken: 28 }],
    ["queries amid the tokens", { kvHeads: 1, queryHeads: 2, tokens: 40, count: 8, firstToken: 10 }],
    [
      "more than 64 queries, of which the last count",
      { kvHeads: 1, queryHeads: 1, tokens: 90, count: 70, firstToken: 20 },
    ],
  ])("of %s are those of softmax", (_, setting) => {
    const got = weightsOn(runtime, setting);
    // The kernel's exponential is good to a few units in the last place of f32.
    expect(worst(got, plain(setting, tensorsOf(setting)))).toBeLessThan(1e-5);
    expect(runtime.heap.bytesInUse).toBe(0);
  });

  it("have mean 1, and 0.2 for tokens that no query sees", () => {
    const setting = { kvHeads: 2, queryHeads: 2, tokens: 50, count: 4, firstToken: 20 };
    const got = weightsOn(runtime, setting);
    expect(got.reduce((a, b) => a + b, 0) / 50).toBeCloseTo(1, 5);
    expect(Array.from(got.subarray(24))).toEqual(Array(26).fill(Math.fround(0.2)));
    expect(Math.min(...got.subarray(0, 24))).toBeGreaterThan(0.2);
  });

  it("of one token that all look at are capped", () => {
    const setting = { kvHeads: 1, queryHeads: 1, tokens: 200, count: 8, firstToken: 192 };
    const tensors = { keys: new Float32Array(200 * DIM), queries: new Float32Array(8 * DIM).fill(4) };
    tensors.keys.fill(4, 3 * DIM, 4 * DIM);
    const got = weightsOn(runtime, setting, tensors);
    expect(got[3]).toBe(Math.fround(0.2 + 0.8 * 50));
    expect(got[4]).toBeCloseTo(0.2, 5);
  });

  it("do not fear scores past what exp can hold", () => {
    const setting = { kvHeads: 1, queryHeads: 1, tokens: 10, count: 2, firstToken: 8 };
    const tensors = tensorsOf(setting);
    const got = weightsOn(runtime, setting, { ...tensors, queries: tensors.queries.map((x) => 1e4 * x) });
    expect(got.every(Number.isFinite)).toBe(true);
    expect(got.reduce((a, b) => a + b, 0)).toBeCloseTo(10, 3);
  });
});
