/** `--bits`: settings of the codec, as 1.25/2,2/2 or 2 for both kinds. */
import { InvalidArgumentError } from "commander";
import { checkOptions } from "../codec/options.ts";
import type { BitPair } from "../evaluation/eval/methods.ts";
import { asUsage } from "./failure.ts";
import { number } from "./numbers.ts";

export const bitPairs = (text: string): BitPair[] => text.split(",").map(bitPair);

function bitPair(text: string): BitPair {
  const parts = text.split("/").map(number);
  if (parts.length > 2) throw new InvalidArgumentError(`Expected KEYS/VALUES or one number for both, got "${text}".`);
  const [keyBits, valueBits = keyBits] = parts;
  asUsage(() => checkOptions({ keyBits, valueBits }));
  return { keyBits, valueBits };
}
