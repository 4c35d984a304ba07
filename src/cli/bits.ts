/** `--bits`: settings of the codec, as 1.25/2,2/2 or 2 for both kinds; 1.25/16 leaves values as they are. */
import { InvalidArgumentError } from "commander";
import { checkOptions } from "../codec/options.ts";
import { type BitPair, EXACT_BITS } from "../evaluation/eval/methods.ts";
import { asUsage } from "./failure.ts";
import { number } from "./numbers.ts";

export const bitPairs = (text: string): BitPair[] => text.split(",").map(bitPair);

function bitPair(text: string): BitPair {
  const parts = text.split("/").map(number);
  if (parts.length > 2) throw new InvalidArgumentError(`Expected KEYS/VALUES or one number for both, got "${text}".`);
  const [keyBits, valueBits = keyBits] = parts;
  const exact = parts.length === 2 && valueBits === EXACT_BITS;
  asUsage(() => checkOptions({ keyBits, ...(exact ? {} : { valueBits }) }));
  return { keyBits, valueBits };
}
