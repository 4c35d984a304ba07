/**
 * Texts for an evaluation, made from a seed. What the head says is needed to go on with the tail, so a cache that has
 * lost the head is found out. A text of plain prose needs little of it.
 */
import type { Random } from "../tasks/random.ts";

/** Head of `units` units (definitions, records, facts), and a tail of more words than any continuation asks for. */
export interface MadeText {
  head: string;
  tail: string;
}

export type MakeText = (random: Random, units: number) => MadeText;

/** Rounds of a tail: one is enough but for short contexts. */
const ROUNDS = 4;

/** Every item by `say`, in an order of its own each round. */
export const rounds = <T>(random: Random, items: T[], say: (item: T) => string): string =>
  Array.from({ length: ROUNDS }, () => random.shuffled(items).map(say).join("")).join("");
