/** Texts that a model cannot go on with but by their far context, to measure it on elsewhere (tools/). */
import { TASKS } from "../tasks/index.ts";
import { longestCase } from "../tasks/task.ts";
import { TEXTS } from "./index.ts";

export interface ContextText {
  name: string;
  text: string;
}

/** Characters that follow the context: the 64 tokens that tools score, at four of a token of prose. */
const TAIL = 256;
const NEEDLES = TASKS.filter(({ name }) => name.startsWith("needle single"));
const characters = (text: string): number => text.length;

/** Code, records and needles as `svdq eval` has them, and single needles as `svdq tasks` asks for them, of one seed. */
export function contextTexts(seed: number, length: number): ContextText[] {
  const made = TEXTS.filter(({ name }) => name !== "novel").map(({ name, text }) => ({
    name,
    text: text(seed, length, characters).slice(0, length + TAIL),
  }));
  const asked = NEEDLES.map(({ name, make }) => {
    const { context, question, answers } = longestCase(make(undefined), seed, length, characters);
    return { name: name.replaceAll(" ", "-"), text: `${context}${question} ${answers[0]}.\n` };
  });
  return [...made, ...asked].map(({ name, text }) => ({ name: `${name}-${seed}`, text }));
}
