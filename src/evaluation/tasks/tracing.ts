/** RULER's variable tracking (section 3.2): a chain of assignments in noise, and which variables hold the first value. */
import type { Random } from "./random.ts";
import type { Task, TaskCase } from "./task.ts";
import { NOISE } from "./words.ts";

const HOPS = 4;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

const variable = (random: Random): string => Array.from({ length: 5 }, () => random.pick([...LETTERS])).join("");

function tracking(random: Random, units: number): TaskCase {
  const chain = new Set<string>();
  while (chain.size <= HOPS) chain.add(variable(random));
  const names = [...chain];
  const value = random.digits(5);
  const lines = names.map((name, i) => `VAR ${name} = ${i === 0 ? value : `VAR ${names[i - 1]}`}`);
  const all = Array.from({ length: units }, () => NOISE);
  // In the order of the chain.
  const places = lines.map(() => random.below(units + 1)).sort((a, b) => a - b);
  for (const [i, line] of lines.entries()) all.splice(places[i] + i, 0, line);
  return {
    context: `Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n${all.join("\n")}`,
    question: `\nQuestion: Find all variables that are assigned the value ${value} in the text above. Answer: According to the chain(s) of variable assignment in the text above, ${names.length} variables are assigned the value ${value}, they are:`,
    answers: names,
    length: 40,
  };
}

export const TRACKING_TASK: Task = { name: "variable tracking", make: () => tracking };
