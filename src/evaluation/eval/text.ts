/** A text as tokens: those before the continuation, those fed one after the other, those that they are scored on. */
import type { EvalEngine } from "./engine.ts";

export interface Lengths {
  /** Tokens before the continuation: what is compressed. */
  context: number;
  /** Tokens scored. */
  continuation: number;
}

export interface EvalText {
  name: string;
  /** (context) */
  context: number[];
  /** (continuation), fed in turn: one must be fed after a load before there is anything to score. */
  fed: number[];
  /** (continuation): what the text has behind each of them. */
  next: number[];
}

/** More letters than any tokenizer makes a token of, on average: a long file is not read to its end. */
const LETTERS_A_TOKEN = 16;

/** The first tokens of a text. RangeError where there are too few. */
export function cutText(engine: Pick<EvalEngine, "tokenize">, name: string, text: string, lengths: Lengths): EvalText {
  const { context, continuation } = lengths;
  const needed = context + continuation + 1;
  let tokens = engine.tokenize(text.slice(0, needed * LETTERS_A_TOKEN));
  if (tokens.length < needed) tokens = engine.tokenize(text);
  if (tokens.length < needed) {
    throw new RangeError(
      `text: expected at least ${needed} tokens (context, continuation and one more), got ${tokens.length}`,
    );
  }
  return {
    name,
    context: tokens.slice(0, context),
    fed: tokens.slice(context, needed - 1),
    next: tokens.slice(context + 1, needed),
  };
}
