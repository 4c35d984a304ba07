/** Facts among plain sentences, all of them asked for at the end. */
import { keys, sentence } from "../tasks/words.ts";
import { type MakeText, rounds } from "./made-text.ts";

/** Sentences around each fact. */
const HAY = 3;
const DIGITS = 6;

export const makeNeedles: MakeText = (random, units) => {
  const facts = keys(random, units).map((key) => ({ key, number: random.digits(DIGITS) }));
  const hidden = facts.map(({ key, number }) => {
    const hay = Array.from({ length: HAY }, () => sentence(random)).join(" ");
    return `${hay} The number of the ${key} is ${number}.`;
  });
  return {
    head: `${hidden.join(" ")}\n\n`,
    tail: rounds(random, facts, ({ key, number }) => `What is the number of the ${key}? It is ${number}.\n`),
  };
};
