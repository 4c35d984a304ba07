/** RULER's aggregation (section 3.3): the words that come most often, in lists of common or of coded words. */
import type { Random } from "./random.ts";
import type { Task, TaskCase } from "./task.ts";
import { keys } from "./words.ts";

/** A third of how often words come in RULER, so that 1,024 tokens are enough for a case. */
const COMMON = { asked: 10, often: 10, seldom: 1 };
const FREQUENT = { asked: 3, words: 40 };

/** Ten words come ten times, the others once; a unit is one of the others. */
function common(random: Random, units: number): TaskCase {
  const words = keys(random, COMMON.asked + units);
  const often = words.slice(0, COMMON.asked);
  const list = words.flatMap((word, i) =>
    new Array<string>(i < COMMON.asked ? COMMON.often : COMMON.seldom).fill(word),
  );
  const numbered = random.shuffled(list).map((word, i) => `${i + 1}. ${word}`);
  return {
    context: `Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often.\n${numbered.join(" ")}`,
    question: `\nQuestion: What are the ${COMMON.asked} most common words in the above list? Answer: The top ${COMMON.asked} words that appear most often in the list are:`,
    answers: often,
    length: 90,
  };
}

/** Coded words of a zeta distribution, alpha 2; a unit is a word of the text. */
function frequent(random: Random, units: number): TaskCase {
  const letters = [..."abcdefghijklmnopqrstuvwxyz"];
  const words = new Set<string>();
  while (words.size < FREQUENT.words) words.add(Array.from({ length: 6 }, () => random.pick(letters)).join(""));
  const coded = [...words];
  const weights = coded.map((_, i) => 1 / (i + 1) ** 2);
  const sum = weights.reduce((a, b) => a + b, 0);
  const text = coded.flatMap((word, i) =>
    new Array<string>(Math.max(1, Math.round((units * weights[i]) / sum))).fill(word),
  );
  return {
    context: `Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded words. ${random.shuffled(text).join(" ... ")}`,
    question:
      "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared words in the above coded text? Answer: According to the coded text above, the three most frequently appeared words are:",
    answers: coded.slice(0, FREQUENT.asked),
    length: 40,
  };
}

export const COUNTING_TASKS: Task[] = [
  { name: "common words", make: () => common },
  { name: "frequent words", make: () => frequent },
];
