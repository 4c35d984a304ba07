/**
 * A language model for `svdq eval` that is none: words are tokens, its state is a made-up cache, and what it says
 * strays from the exact distribution by as much as the loaded state does from that cache.
 */
import { readFile, writeFile } from "node:fs/promises";
import { parseLlamaState } from "../../src/engines/llama-cpp.ts";
import type { EngineOptions, EvalEngine } from "../../src/evaluation/eval/engine.ts";
import { elementsOf, relativeError } from "./tiny-cache.ts";
import { tinyLlama, tinyState } from "./tiny-state.ts";

const VOCABULARY = 4;

export class FakeEngine implements EvalEngine {
  readonly calls: string[] = [];
  readonly scored: number[] = [];
  paths = new Set<string>();
  options: EngineOptions | undefined;
  #held: number[] = [];
  #stray = 0;
  /** Called before each call of `score`. */
  onScore = (): void => undefined;

  open = async (options: EngineOptions): Promise<EvalEngine> => {
    this.options = options;
    return this;
  };
  tokenize = (text: string): number[] =>
    text
      .split(" ")
      .filter(Boolean)
      .map((word) => word.length % VOCABULARY);
  tokenizePart = (text: string): number[] => this.tokenize(text);
  detokenize = (tokens: number[]): string => tokens.join(" ");
  /** What it is told to say; where the state strays too far, nothing. */
  answer: number[] = [];
  async generate(tokens: number[], count: number, enough: (said: number[]) => boolean): Promise<number[]> {
    this.scored.push(tokens.length);
    const said: number[] = [];
    while (said.length < count && this.#stray < this.patience && said.length < this.answer.length && !enough(said)) {
      said.push(this.answer[said.length]);
    }
    return said;
  }
  patience = 0.5;
  async clear(): Promise<void> {
    this.calls.push("clear");
    this.#held = [];
  }
  async feed(tokens: number[]): Promise<void> {
    this.calls.push("feed");
    this.#held.push(...tokens);
  }
  async save(path: string): Promise<void> {
    this.paths.add(path);
    await writeFile(path, this.#state());
  }
  #state = (): Uint8Array => tinyState(tinyLlama(this.#held.length), false, Int32Array.from(this.#held));

  /** 1 where cells are missing. */
  async load(path: string): Promise<void> {
    this.paths.add(path);
    this.calls.push("load");
    const [got, exact] = [parseLlamaState(await readFile(path)), parseLlamaState(this.#state())];
    const errorOf = (part: "keys" | "values") =>
      relativeError(
        elementsOf({ type: "f16", bytes: got[part][0] }),
        elementsOf({ type: "f16", bytes: exact[part][0] }),
      );
    this.#stray =
      got.positions.length < exact.positions.length ? 1 : Math.min(1, Math.sqrt(errorOf("keys") + errorOf("values")));
  }
  async score(tokens: number[]): Promise<Float32Array[]> {
    this.onScore();
    this.scored.push(tokens.length);
    // As engines do it: probabilities add up to 1 nearly.
    const x = 0.3 * this.#stray;
    return tokens.map(() => Float32Array.of(0.5 - x, 0.3 + x, 0.15, 0.05).map((p) => 1.0002 * p));
  }
  async dispose(): Promise<void> {
    this.calls.push("dispose");
  }
}
