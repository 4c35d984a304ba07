/**
 * RULER's question answering (section 3.4), on a text that the user gives: a word left out of one of its sentences, and
 * one left out of the sentence behind it, which has to be found by the one before (two steps).
 */
import type { Random } from "./random.ts";
import type { MakeCase, Task, TaskCase } from "./task.ts";

const LEAST_WORDS = 6;
const LEAST_LETTERS = 5;

/** Sentences on one line each. */
export function sentencesOf(text: string): string[] {
  const found = text.replace(/\s+/g, " ").match(/[^.!?]+[.!?]+(?=\s|$)/g) ?? [];
  return found.map((one) => one.trim()).filter((one) => one.split(" ").length >= LEAST_WORDS);
}

/** A unit is a sentence of the text. */
const asking =
  (steps: 1 | 2) =>
  (text: string | undefined): MakeCase => {
    const sentences = sentencesOf(text ?? "");
    if (sentences.length < 8) {
      throw new RangeError(`text: expected at least 8 sentences to ask about, got ${sentences.length}`);
    }
    return (random, units) => ask(random, sentences, Math.min(units + 2, sentences.length), steps);
  };

function ask(random: Random, sentences: string[], count: number, steps: 1 | 2): TaskCase {
  const start = random.below(1 + sentences.length - count);
  const part = sentences.slice(start, start + count);
  const at = 1 + random.below(count - 1);
  const words = part[at].split(" ");
  const long = words
    .map((word, i) => ({ word: word.replace(/^\W+|\W+$/g, ""), i }))
    .filter(({ word }, n) => n > 2 && word.length >= LEAST_LETTERS);
  const { word, i } = long.length
    ? random.pick(long)
    : { word: words.at(-1)!.replace(/\W+$/, ""), i: words.length - 1 };
  const head = words.slice(0, i).join(" ");
  const where = steps === 1 ? "The sentence" : `The sentence that follows "${part[at - 1]}"`;
  return {
    context: `Answer the question based on the given document.\n\n${part.join(" ")}`,
    question: `\nQuestion: How does the sentence go on? Answer with the text of the document. ${where} is: "${steps === 1 ? head : words.slice(0, Math.min(2, i)).join(" ")}`,
    answers: [word],
    any: true,
    length: steps === 1 ? 8 : 8 + 2 * i,
  };
}

export const ASKING_TASKS: Task[] = [
  { name: "question 1", needsText: true, make: asking(1) },
  { name: "question 2", needsText: true, make: asking(2) },
];
