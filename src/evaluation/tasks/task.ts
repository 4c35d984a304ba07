/**
 * A task makes cases of any length from a seed: a context, which is what gets compressed, and a question that follows
 * it. Scored as RULER does (arXiv 2404.06654, string_match): the part of the answers that the model's own words hold.
 */
import { mostUnits } from "./most-units.ts";
import { Random } from "./random.ts";

export interface TaskCase {
  context: string;
  /** Goes behind the context, with the words that the answer starts with. */
  question: string;
  /** Each is looked for; for QA one is enough. */
  answers: string[];
  /** True where one of the answers is enough. */
  any?: boolean;
  /** Tokens to generate. */
  length: number;
}

/** A case with `units` units of what hides the answer: sentences, lines, words. */
export type MakeCase = (random: Random, units: number) => TaskCase;

export interface Task {
  name: string;
  /** True where there is nothing to ask about without a text. */
  needsText?: boolean;
  /** `text`: what the user gave, for the tasks that ask about it. */
  make(text: string | undefined): MakeCase;
}

/** Part of the answers that `output` holds, in any case. */
export function scoreOf({ answers, any }: TaskCase, output: string): number {
  const said = output.toLowerCase();
  const found = answers.filter((answer) => said.includes(answer.toLowerCase())).length;
  return any ? Math.min(1, found) : found / answers.length;
}

/** The longest case of at most `tokens` tokens of context; RangeError where even one unit is longer. */
export function longestCase(make: MakeCase, seed: number, tokens: number, count: (text: string) => number): TaskCase {
  const caseOf = (units: number): TaskCase => make(new Random(seed), units);
  const units = mostUnits((units) => count(caseOf(units).context) <= tokens);
  if (units === 0) throw new RangeError(`context: expected enough for one unit of the task, got ${tokens}`);
  return caseOf(units);
}
