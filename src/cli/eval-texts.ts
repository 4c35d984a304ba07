/** Texts that a model is measured on: files of the user, or those that svdq makes. */
import { basename } from "node:path";
import type { EvalEngine } from "../evaluation/eval/engine.ts";
import { cutText, type EvalText, type Lengths } from "../evaluation/eval/text.ts";
import { TEXTS } from "../evaluation/texts/index.ts";
import { aboutFile, asUsage } from "./failure.ts";

export async function ownTexts(
  engine: EvalEngine,
  paths: string[],
  strings: string[],
  lengths: Lengths,
): Promise<EvalText[]> {
  const texts: EvalText[] = [];
  for (const [i, path] of paths.entries()) {
    texts.push(await aboutFile(path, async () => cutText(engine, basename(path), strings[i], lengths)));
  }
  return texts;
}

export const builtInTexts = (engine: EvalEngine, seed: number, lengths: Lengths): EvalText[] =>
  TEXTS.map(({ name, text }) => {
    const string = text(seed, lengths.context, (part) => engine.tokenize(part).length);
    return asUsage(() => cutText(engine, name, string, lengths));
  });
