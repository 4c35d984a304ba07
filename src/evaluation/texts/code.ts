/** Program code whose end calls what its beginning defines: names, parameters and numbers stand far behind. */
import type { Random } from "../tasks/random.ts";
import { ADJECTIVES, NOUNS } from "../tasks/words.ts";
import { type MakeText, rounds } from "./made-text.ts";

interface Definition {
  name: string;
  parameters: string[];
  constant: string;
  text: string;
}

const VERBS = ["measure", "collect", "resolve", "rotate", "encode", "schedule", "publish", "balance"];

function definition(random: Random): Definition {
  const [noun, first, second] = random.shuffled(NOUNS);
  const name = `${random.pick(VERBS)}_${random.pick(ADJECTIVES)}_${noun}`;
  const parameters = [first, second];
  const constant = random.digits(4);
  const text =
    `def ${name}(${first}, ${second}):\n` +
    `    """Return the ${noun} of ${first} and ${second}."""\n` +
    `    if ${first} > ${constant}:\n        raise ValueError("${first} is above ${constant}")\n` +
    `    return ${first} * ${random.digits(2)} + ${second}\n`;
  return { name, parameters, constant, text };
}

const test = ({ name, parameters: [first, second], constant }: Definition): string =>
  `def test_${name}():\n    with raises(ValueError, match="${first} is above ${constant}"):\n` +
  `        ${name}(${first}=${constant} + 1, ${second}=0)\n\n`;

export const makeCode: MakeText = (random, units) => {
  const definitions = Array.from({ length: units }, () => definition(random));
  return {
    head: `${definitions.map(({ text }) => text).join("\n")}\n`,
    // Tests of the functions, in another order than they were defined in.
    tail: `# Every function refuses what it cannot do.\nfrom pytest import raises\n\n${rounds(random, definitions, test)}`,
  };
};
