/** States that the real llama.cpp writes of a quantized cache: refused by name, because their rows are rotated. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { parseLlamaState } from "../../src/engines/llama-cpp.ts";
import { UnsupportedError } from "../../src/errors.ts";
import { findNodeLlama } from "../../src/evaluation/eval/node-llama-cpp.ts";
import { testDirectory } from "../support/directory.ts";
import { failureOf } from "../support/failure.ts";
import { realGguf } from "../support/real-gguf.ts";

const pathOf = testDirectory();
const found = findNodeLlama([import.meta.url, resolve("build/engines/_")]);
if (!found) console.log("left out: states of the real llama.cpp (node scripts/fetch-engine.mjs brings it)");

async function stateOf(type: string): Promise<Uint8Array> {
  const { getLlama } = await import(pathToFileURL(found!).href);
  const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
  try {
    const model = await llama.loadModel({ modelPath: realGguf });
    const context = await model.createContext({
      ...{ contextSize: 256, threads: 1, flashAttention: true },
      ...{ experimentalKvCacheKeyType: type, experimentalKvCacheValueType: type },
    });
    const sequence = context.getSequence();
    await sequence.controlledEvaluate(model.tokenize("The grass is green. The sky is blue. ".repeat(4)));
    await sequence.saveStateToFile(pathOf("state"));
    return readFileSync(pathOf("state"));
  } finally {
    await llama.dispose();
  }
}

describe.skipIf(!found || !realGguf)("a state of the real llama.cpp", () => {
  it.each(["Q8_0", "Q4_0"])("with a %s cache is refused, and says what to save", async (type) => {
    const state = await stateOf(type);
    const error = await failureOf(async () => parseLlamaState(state));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toMatch(
      new RegExp(
        `layer 0 keys: expected f32, f16 or bf16, got ${type.toLowerCase()} .*save the state of a context whose`,
      ),
    );
  });

  it.each(["F16", "F32"])("with a %s cache is read", async (type) => {
    const state = parseLlamaState(await stateOf(type));
    expect(state).toMatchObject({ type: type.toLowerCase(), valuesTransposed: false });
    expect(state.keys).toHaveLength(30);
  });
});
