/**
 * node-llama-cpp, which the user installs; it is no dependency and never bundled. Looked for as Node resolves it from
 * the working directory (NODE_PATH included), then from this package.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { UnsupportedError } from "../../errors.ts";
import type { EngineOptions, EvalEngine } from "./engine.ts";

/** As much of node-llama-cpp 3.21 and later as is used here. */
interface Library {
  getLlama(options: object): Promise<Llama>;
}
interface Llama {
  loadModel(options: object): Promise<Model>;
  dispose(): Promise<void>;
}
interface Model {
  tokenize(text: string): number[];
  detokenize(tokens: readonly number[]): string;
  isEogToken(token: number): boolean;
  readonly tokens: { readonly bos: number | null; readonly shouldPrependBosToken: boolean };
  createContext(options: object): Promise<{ getSequence(): Sequence }>;
}
interface Sequence {
  clearHistory(): Promise<void>;
  controlledEvaluate(
    input: (number | [number, object])[],
  ): Promise<(undefined | { next: { token?: number | null; probabilities?: Map<number, number> } })[]>;
  saveStateToFile(path: string): Promise<unknown>;
  loadStateFromFile(path: string, options: { acceptRisk: true }): Promise<void>;
}

/** The file that `import "node-llama-cpp"` would load, from the first folder where there is one. */
export function findNodeLlama(folders: string[] = [join(process.cwd(), "_"), import.meta.url]): string | null {
  for (const folder of folders) {
    try {
      return createRequire(folder).resolve("node-llama-cpp");
    } catch {
      // Not installed there.
    }
  }
  return null;
}

/** Loads the model on the CPU. UnsupportedError where node-llama-cpp (`path`) is missing, or it or the model unfit. */
export async function openNodeLlama(
  { modelPath, contextSize, threads }: EngineOptions,
  path = findNodeLlama(),
): Promise<EvalEngine> {
  const llama = await loadLlama(path);
  try {
    const model = await llama.loadModel({ modelPath });
    // Values untransposed and rows in f16; a state loads only into a context of the same settings.
    const context = await model.createContext({
      ...{ contextSize, threads, sequences: 1, flashAttention: true },
      ...{ experimentalKvCacheKeyType: "F16", experimentalKvCacheValueType: "F16" },
    });
    return engineOf(llama, model, context.getSequence());
  } catch (cause) {
    await llama.dispose();
    throw new UnsupportedError(`${modelPath}: llama.cpp cannot load it: ${reasonOf(cause)}`, { cause });
  }
}

async function loadLlama(path: string | null): Promise<Llama> {
  if (path === null) {
    throw new UnsupportedError(
      "eval needs node-llama-cpp 3.21 or later, which is not here: npm install node-llama-cpp",
    );
  }
  try {
    const { getLlama }: Library = await import(pathToFileURL(path).href);
    return await getLlama({ gpu: false, build: "never", logLevel: "error" });
  } catch (cause) {
    const reason = reasonOf(cause);
    throw new UnsupportedError(`node-llama-cpp does not start, npm install node-llama-cpp may help: ${reason}`, {
      cause,
    });
  }
}

const reasonOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

function engineOf(llama: Llama, model: Model, sequence: Sequence): EvalEngine {
  const { bos, shouldPrependBosToken } = model.tokens;
  const first = shouldPrependBosToken && bos !== null ? [bos] : [];
  // Temperature 0 leaves the probabilities as the model gives them, none cut off.
  const wanted = { generateNext: { probabilities: true, options: { temperature: 0 } } };
  const likeliest = { generateNext: { token: true, options: { temperature: 0 } } };
  return {
    tokenize: (text) => [...first, ...model.tokenize(text)],
    tokenizePart: (text) => model.tokenize(text),
    detokenize: (tokens) => model.detokenize(tokens),
    clear: () => sequence.clearHistory(),
    feed: async (tokens) => void (await sequence.controlledEvaluate(tokens)),
    score: async (tokens) => {
      const outputs = await sequence.controlledEvaluate(tokens.map((token) => [token, wanted]));
      return tokens.map((_, i) => dense(outputs[i]?.next.probabilities));
    },
    async generate(tokens, count, enough) {
      const said: number[] = [];
      let fed = tokens;
      while (said.length < count && !enough(said)) {
        const last = fed.length - 1;
        const outputs = await sequence.controlledEvaluate([...fed.slice(0, last), [fed[last], likeliest]]);
        const token = outputs[last]?.next.token;
        if (token == null || model.isEogToken(token)) break;
        said.push(token);
        fed = [token];
      }
      return said;
    },
    save: async (path) => void (await sequence.saveStateToFile(path)),
    load: async (path) => {
      await sequence.clearHistory();
      await sequence.loadStateFromFile(path, { acceptRisk: true });
    },
    dispose: () => llama.dispose(),
  };
}

/** By id: a full list has every id from 0. */
function dense(probabilities: Map<number, number> | undefined): Float32Array {
  if (!probabilities)
    throw new UnsupportedError("node-llama-cpp gave no probabilities; expected version 3.21 or later");
  const out = new Float32Array(probabilities.size);
  for (const [id, p] of probabilities) out[id] = p;
  return out;
}
