/**
 * What compression costs a language model: the context of each text is computed once, its state saved, sent through
 * every method and loaded again; the text's own continuation is then fed and the model's next-token distributions are
 * compared with those through the exact state. Only the continuation counts: a prompt's own likelihoods never see a
 * compressed cache.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GgufModel } from "../../engines/gguf-model.ts";
import { parseLlamaState } from "../../engines/llama-state.ts";
import type { ModelProfile } from "../../engines/profile.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { EvalEngine } from "./engine.ts";
import { Measures, normalise } from "./measures.ts";
import { cacheOf, type EvalMethod } from "./methods.ts";
import type { EvalRow } from "./report.ts";
import type { EvalText } from "./text.ts";

/** The same in every run: on quantized weights another number alone moves KL by 0.003. */
const SCORE_CHUNK = 16;
/** Between chunks a signal is heard. */
export const FEED_CHUNK = 256;

export interface EvaluateOptions {
  /** Queries of the model, for the codec's metric; without it the codec has none. */
  profile?: ModelProfile | undefined;
  signal?: AbortSignal;
  /** After each prefill, exact run and method of each text. */
  onStep?: (what: string) => void;
}

/** Steps of one text beside those of its methods: prefill, exact run. */
export const STEPS_A_TEXT = 2;

/** Rows of `methods`, over all texts. Files lie in the system's temporary folder and are gone afterwards. */
export async function evaluate(
  runtime: Runtime,
  engine: EvalEngine,
  model: GgufModel,
  texts: EvalText[],
  methods: EvalMethod[],
  options: EvaluateOptions = {},
): Promise<EvalRow[]> {
  const runs: MethodRun[] = methods.map(() => ({
    all: new Measures(),
    texts: [],
    bits: 0,
    bitsWithBasis: 0,
    seconds: 0,
  }));
  const folder = await mkdtemp(join(tmpdir(), "svdq-eval-"));
  const path = join(folder, "state.bin");
  const { signal, onStep } = options;
  const work = signal ? { signal } : {};
  try {
    for (const text of texts) {
      await engine.clear();
      await inChunks(text.context, FEED_CHUNK, signal, (tokens) => engine.feed(tokens));
      await engine.save(path);
      onStep?.("context");
      const state = parseLlamaState(await readFile(path));
      const source = cacheOf(state, model, options.profile);
      const exact: Float32Array[] = [];
      await score(engine, path, text, signal, (p) => exact.push(p));
      onStep?.("exact");
      for (const [i, method] of methods.entries()) {
        const run = runs[i];
        const own = new Measures();
        run.texts.push(own);
        const start = performance.now();
        const { file, bits, bitsWithBasis } = await method.apply(runtime, state, source, work);
        run.seconds += (performance.now() - start) / 1000 / texts.length;
        run.bits += bits / texts.length;
        run.bitsWithBasis += bitsWithBasis / texts.length;
        await writeFile(path, file);
        await score(engine, path, text, signal, (q, at) => {
          own.add(exact[at], q, text.next[at]);
        });
        run.all.join(own);
        onStep?.(method.name);
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return methods.map(({ name }, i) => {
    const { all, texts: measures, bits, bitsWithBasis, seconds } = runs[i];
    const byText = texts.map((text, t) => {
      const { kl, perplexityChange } = measures[t].result();
      return { text: text.name, kl, perplexityChange };
    });
    return { method: name, bits, bitsWithBasis, ...all.result(), seconds, byText };
  });
}

/** What is gathered of one method, over texts. */
interface MethodRun {
  all: Measures;
  texts: Measures[];
  bits: number;
  bitsWithBasis: number;
  seconds: number;
}

/** Loads a state and hands out the distribution after each token fed. */
async function score(
  engine: EvalEngine,
  path: string,
  text: EvalText,
  signal: AbortSignal | undefined,
  take: (distribution: Float32Array, at: number) => void,
): Promise<void> {
  await engine.load(path);
  await inChunks(text.fed, SCORE_CHUNK, signal, async (tokens, first) => {
    for (const [i, distribution] of (await engine.score(tokens)).entries()) take(normalise(distribution), first + i);
  });
}

export async function inChunks(
  tokens: number[],
  length: number,
  signal: AbortSignal | undefined,
  work: (tokens: number[], first: number) => Promise<void>,
): Promise<void> {
  for (let first = 0; first < tokens.length; first += length) {
    signal?.throwIfAborted();
    await work(tokens.slice(first, first + length), first);
    // The engine may answer without leaving the thread, and Ctrl-C must be heard.
    await new Promise((resolve) => setImmediate(resolve));
  }
  signal?.throwIfAborted();
}
