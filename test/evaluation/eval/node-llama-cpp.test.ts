/** The adapter on a library that is none, and the real one on the real model where both are found. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { readGgufModel, serialiseLlamaState } from "../../../src/engines/llama-cpp.ts";
import { UnsupportedError } from "../../../src/errors.ts";
import { evaluate } from "../../../src/evaluation/eval/evaluate.ts";
import { EVAL_METHODS, FLOOR, WINDOW } from "../../../src/evaluation/eval/methods.ts";
import { findNodeLlama, openNodeLlama } from "../../../src/evaluation/eval/node-llama-cpp.ts";
import { cutText } from "../../../src/evaluation/eval/text.ts";
import { testDirectory } from "../../support/directory.ts";
import { failureOf } from "../../support/failure.ts";
import { PLATFORMS } from "../../support/platforms.ts";
import { realGguf } from "../../support/real-gguf.ts";

const pathOf = testDirectory();
const OPTIONS = { modelPath: "m.gguf", contextSize: 300, threads: 2 };

const LIBRARY = `
export const log = [];
export const getLlama = async (options) => ({
  loadModel: async ({ modelPath }) => ({
    tokenize: (text) => [...text].map(Number),
    tokens: { bos: 9, shouldPrependBosToken: true },
    createContext: async (given) => {
      log.push(options, modelPath, given);
      return { getSequence: () => ({
        clearHistory: async () => log.push("clear"),
        controlledEvaluate: async (input) => input.map((one) => Array.isArray(one)
          ? { next: { probabilities: new Map([[2, 0.5], [0, 0.375], [1, 0.125]]) } } : undefined),
        saveStateToFile: async (path) => log.push("save " + path),
        loadStateFromFile: async (path, { acceptRisk }) => log.push("load " + path + acceptRisk),
      }) };
    },
  }),
  dispose: async () => log.push("dispose"),
});
`;

function install(code: string): string {
  const folder = pathOf("node_modules/node-llama-cpp");
  mkdirSync(folder, { recursive: true });
  const exports = { ".": { import: "./index.js", node: "./index.js" } };
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "node-llama-cpp", type: "module", exports }));
  writeFileSync(join(folder, "index.js"), code);
  return join(folder, "index.js");
}

describe("node-llama-cpp", () => {
  it("is found from a folder, the first that has it", () => {
    expect(findNodeLlama([pathOf("_")])).toBe(process.env.NODE_PATH ? findNodeLlama() : null);
    const path = install("");
    expect(findNodeLlama([join(pathOf(), "..", "_"), pathOf("_")])).toMatch(/node-llama-cpp/);
    expect(findNodeLlama([pathOf("_")])).toBe(path);
  });

  it("is asked for one sequence on the CPU, in f16, and for whole distributions", async () => {
    const path = install(LIBRARY);
    const engine = await openNodeLlama(OPTIONS, path);
    const { log } = await import(pathToFileURL(path).href);
    expect(log).toMatchObject([
      { gpu: false, build: "never" },
      "m.gguf",
      { contextSize: 300, threads: 2, sequences: 1, flashAttention: true, experimentalKvCacheKeyType: "F16" },
    ]);
    expect(engine.tokenize("123")).toEqual([9, 1, 2, 3]);
    expect(await engine.score([1, 2])).toEqual(new Array(2).fill(Float32Array.of(0.375, 0.125, 0.5)));
    await engine.feed([1]);
    await engine.save("s");
    await engine.load("s");
    await engine.dispose();
    expect(log.slice(3)).toEqual(["save s", "clear", "load strue", "dispose"]);
  });

  it("missing or broken is an UnsupportedError that says what to install", async () => {
    const missing = await failureOf(() => openNodeLlama(OPTIONS, null));
    const broken = await failureOf(() => openNodeLlama(OPTIONS, install('throw new Error("no binary");')));
    const older = await failureOf(async () => (await openNodeLlama(OPTIONS, install("export {};"))).dispose());
    for (const error of [missing, broken, older]) {
      expect(error).toBeInstanceOf(UnsupportedError);
      expect(error.message).toMatch(/npm install node-llama-cpp/);
    }
    expect(broken.message).toMatch(/no binary$/);
  });

  it("a model that it cannot load is an UnsupportedError with the file's name, and the library is let go", async () => {
    const path = install(
      LIBRARY.replace(
        "loadModel: async ({ modelPath }) => ({",
        'loadModel: async () => { throw new Error("bad weights"); }, other: () => ({',
      ),
    );
    const error = await failureOf(() => openNodeLlama(OPTIONS, path));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toBe("m.gguf: llama.cpp cannot load it: bad weights");
    expect((await import(pathToFileURL(path).href)).log).toEqual(["dispose"]);
  });
});

const found = findNodeLlama();
if (!found || !realGguf) {
  const lacking = found ? "no model" : "no node-llama-cpp from the working directory or NODE_PATH";
  console.log(`left out: svdq eval on a real model (${lacking})`);
}

describe.skipIf(!found || !realGguf)("the real model", () => {
  it("says the same through its own state, nearly so through 8 bits, something else without far tokens", async () => {
    const engine = await openNodeLlama({ ...OPTIONS, modelPath: realGguf! });
    try {
      const prose = Array.from({ length: 60 }, (_, i) => `Chapter ${i} says that number ${i * i} is a square.`);
      const text = cutText(engine, "prose", prose.join("\n"), { context: 240, continuation: 32 });
      const exact = {
        name: "exact",
        apply: async (_: unknown, state: Parameters<typeof serialiseLlamaState>[0]) => ({
          ...{ bits: 16, bitsWithBasis: 16, file: serialiseLlamaState(state) },
        }),
      };
      const chosen = [WINDOW, "codec layer span 1 K 2 V 3"].map((name) => EVAL_METHODS.find((m) => m.name === name)!);
      const runtime = await PLATFORMS[2].create({});
      const model = await readGgufModel(realGguf!);
      const rows = await evaluate(runtime, engine, model, [text], [exact, FLOOR, ...chosen]);
      const [same, floor, window, codec] = rows;
      expect(same).toMatchObject({ kl: 0, kl99: 0, top1: 1, perplexityChange: 0 });
      // Quantized weights: see docs/eval.md.
      expect(floor.kl).toBeLessThan(0.02);
      expect(codec.kl).toBeLessThan(0.05);
      expect(window.kl).toBeGreaterThan(2 * codec.kl);
    } finally {
      await engine.dispose();
    }
  });
});
