/** RULER's needles (section 3.1): facts hidden in noise, prose or among their like, and one or more asked for. */
import type { Random } from "./random.ts";
import type { MakeCase, Task } from "./task.ts";
import { keys, NOISE, sentence } from "./words.ts";

interface NeedleOptions {
  hidden: "noise" | "prose" | "needles";
  values?: "number" | "uuid";
  /** UUIDs for keys too. */
  uuidKeys?: boolean;
  keys?: number;
  /** Values of each key. */
  each?: number;
  /** Keys asked for. */
  asked?: number;
}

/** A number of seven digits is about as much as small models copy. */
const DIGITS = 7;
const TOKENS = { number: 16, uuid: 48 };

function needles(options: NeedleOptions): MakeCase {
  const { hidden, values = "number", each = 1, asked = 1 } = options;
  return (random, units) => {
    const count = hidden === "needles" ? Math.max(asked, units) : (options.keys ?? 1);
    const value = () => (values === "uuid" ? random.uuid() : random.digits(DIGITS));
    const facts = keysOf(random, count, options.uuidKeys).map((key) => ({
      key,
      values: Array.from({ length: each }, value),
    }));
    const lines = facts.flatMap((fact) =>
      fact.values.map((v) => `One of the special magic ${values}s for ${fact.key} is: ${v}.`),
    );
    const wanted = random.shuffled(facts).slice(0, asked);
    const names = wanted.map(({ key }) => key).join(" and ");
    const many = asked * each > 1;
    const noun = `special magic ${values}${many ? "s" : ""}`;
    return {
      context: `Some special magic ${values}s are hidden within the following text. Make sure to memorize them. I will quiz you about the ${values}s afterwards.\n${mixed(random, hidden, units, lines)}`,
      question: `\nWhat ${many ? "are all the" : "is the"} ${noun} for ${names} mentioned in the provided text? The ${noun} for ${names} mentioned in the provided text ${many ? "are" : "is"}`,
      answers: wanted.flatMap((fact) => fact.values),
      length: TOKENS[values] * asked * each,
    };
  };
}

const keysOf = (random: Random, count: number, uuids = false): string[] =>
  uuids ? Array.from({ length: count }, () => random.uuid()) : keys(random, count);

/** The lines at places of their own among `units` units of what hides them. */
function mixed(random: Random, hidden: NeedleOptions["hidden"], units: number, lines: string[]): string {
  if (hidden === "needles") return random.shuffled(lines).join("\n");
  const all = Array.from({ length: units }, () => (hidden === "noise" ? NOISE : sentence(random)));
  for (const line of lines) all.splice(random.below(all.length + 1), 0, line);
  return all.join(hidden === "noise" ? "\n" : " ");
}

const task = (name: string, options: NeedleOptions): Task => ({ name, make: () => needles(options) });

export const NEEDLE_TASKS: Task[] = [
  task("needle single 1", { hidden: "noise" }),
  task("needle single 2", { hidden: "prose" }),
  task("needle single 3", { hidden: "prose", values: "uuid" }),
  task("needle multi-key 1", { hidden: "prose", keys: 4 }),
  task("needle multi-key 2", { hidden: "needles" }),
  task("needle multi-key 3", { hidden: "needles", values: "uuid", uuidKeys: true }),
  task("needle multi-value", { hidden: "prose", each: 4 }),
  task("needle multi-query", { hidden: "prose", keys: 4, asked: 4 }),
];
