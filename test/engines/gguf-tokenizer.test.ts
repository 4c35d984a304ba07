/** The tokenizer that scripts/make-onnx-model.mjs takes out of a GGUF file, in Transformers.js, against llama.cpp's. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { readGgufTokenizer } from "../../scripts/onnx/gguf-tokenizer.ts";
import { testDirectory } from "../support/directory.ts";
import { loadTransformers } from "../support/real-engines.ts";
import { realGguf } from "../support/real-gguf.ts";

const LLAMA = resolve("build/engines/node_modules/node-llama-cpp/dist/index.js");
const transformers = loadTransformers();
const pathOf = testDirectory();
const TEXT = `<|im_start|>user
The captain counted 481 casks twice; c'est l'été — naïve, 12.5 %.

  def f(x):\treturn "日本語" # 🙂<|im_end|>
`;

interface Tokenizer {
  encode(text: string, options: object): number[];
  decode(ids: number[]): string;
}

describe.skipIf(!realGguf || !transformers || !existsSync(LLAMA))("the tokenizer of SmolLM2's GGUF file", () => {
  it("makes the tokens that llama.cpp makes, and the text of them again", async () => {
    mkdirSync(pathOf("model"));
    for (const [name, content] of Object.entries(await readGgufTokenizer(realGguf as string))) {
      writeFileSync(pathOf(`model/${name}`), JSON.stringify(content));
    }
    const { env, AutoTokenizer } = transformers as unknown as {
      env: object;
      AutoTokenizer: { from_pretrained(name: string): Promise<Tokenizer> };
    };
    Object.assign(env, { localModelPath: pathOf(), allowRemoteModels: false });
    const tokenizer = await AutoTokenizer.from_pretrained("model");
    const ids = tokenizer.encode(TEXT, { add_special_tokens: false });

    const { getLlama } = await import(pathToFileURL(LLAMA).href);
    const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
    const model = await llama.loadModel({ modelPath: realGguf, vocabOnly: true });
    expect(ids).toEqual(Array.from(model.tokenize(TEXT, true)));
    expect(tokenizer.decode(ids)).toBe(TEXT);
    await llama.dispose();
  }, 30_000);
});
