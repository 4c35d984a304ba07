/** The adapter on the real Transformers.js and SmolLM2: a chat goes on from its own cache, and from the coded one. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeArchive } from "../../src/archive/writer.ts";
import { compressCache, restoreCache } from "../../src/engines/transformers-js.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { openFixture } from "../support/live-cache.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { type CausalModel, loadTransformers, type RealTensor, type Transformers } from "../support/real-engines.ts";

const FOLDER = "SmolLM2-135M-Instruct-ONNX";
const transformers = loadTransformers();
const isThere = existsSync(`models/${FOLDER}`);
if (transformers && !isThere)
  console.log("left out: tests on SmolLM2 in ONNX (node scripts/make-onnx-model.mjs makes it)");

const PROMPT = 160;
const NEW_TOKENS = 12;

describe.skipIf(!transformers || !isThere)("Transformers.js, SmolLM2-135M", () => {
  const { Tensor, DynamicCache, env, AutoModelForCausalLM } = transformers ?? ({} as Transformers);
  let runtime: Runtime;
  let model: CausalModel;
  let cache: Record<string, RealTensor>;
  let exact: number[];
  let prompt: number[];
  const inputs = (count: number) => {
    const int64 = (values: number[]) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    return { input_ids: int64(prompt.slice(0, count)), attention_mask: int64(new Array<number>(count).fill(1)) };
  };
  const generate = async (past: unknown, count: number, max_new_tokens: number) => {
    const options = { ...inputs(count), max_new_tokens, do_sample: false, past_key_values: past };
    return Array.from((await model.generate(options)).data as BigInt64Array, Number).slice(count);
  };
  beforeAll(async () => {
    runtime = await PLATFORMS[2].create();
    const dump = await openFixture();
    prompt = Array.from((dump.tokens as Int32Array).subarray(0, PROMPT));
    env.localModelPath = resolve("models");
    env.allowRemoteModels = false;
    model = await AutoModelForCausalLM.from_pretrained(FOLDER, { dtype: "q4" });
    cache = new DynamicCache() as unknown as Record<string, RealTensor>;
    // One new token is made after all of the prompt but its last: the cache then holds PROMPT - 1 tokens.
    await generate(cache, PROMPT - 1, 1);
    exact = await generate(undefined, PROMPT, NEW_TOKENS);
  }, 120_000);
  afterAll(() => model?.dispose());

  it("goes on from its coded cache with the tokens of the exact one", async () => {
    const { coded, others } = await compressCache(runtime, cache as never, {
      config: model.config,
      options: { keyBits: 8, valueBits: 8, recent: 16 },
    });
    const archive = new Uint8Array(await new Blob(encodeArchive(coded) as BlobPart[]).arrayBuffer());
    const past = restoreCache(runtime, archive, { Tensor, DynamicCache, config: model.config, others } as never);
    expect((past as unknown as { get_seq_length(): number }).get_seq_length()).toBe(PROMPT - 1);
    expect(await generate(past, PROMPT, NEW_TOKENS)).toEqual(exact);
  }, 120_000);

  it("and says other things with another text's cache in its place", async () => {
    const { coded } = await compressCache(runtime, cache as never, { config: model.config, options: { recent: 16 } });
    for (const layer of coded.layers) layer.exactValues.fill(0);
    const past = restoreCache(runtime, coded, { Tensor, DynamicCache, config: model.config } as never);
    expect(await generate(past, PROMPT, NEW_TOKENS)).not.toEqual(exact);
  }, 120_000);
});
