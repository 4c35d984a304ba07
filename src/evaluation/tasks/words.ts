/** Words that cases are made of, and sentences that hide them. */
import type { Random } from "./random.ts";

export const ADJECTIVES =
  "amber brave calm dusty eager faint gentle hollow idle jolly keen lively mellow narrow odd pale quiet rapid silent tidy urban vivid warm young ancient bitter clever distant elegant fierce golden humble inner jagged kind lucky".split(
    " ",
  );
export const NOUNS =
  "anchor basket candle desert engine feather garden hammer island jacket kettle ladder market needle orchard pepper quarry ribbon saddle tunnel umbrella valley window anvil barrel cradle dagger ember fountain gravel harbor icicle jungle kernel lantern meadow nutmeg oyster pillow quilt rocket sparrow teapot urchin violin walnut yard zipper".split(
    " ",
  );

/** RULER's noise: nothing in it to be found. */
export const NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

const WHO = ["The teacher", "My neighbour", "A young engineer", "The old captain", "Her brother", "The committee"];
const DID = ["wrote about", "walked past", "argued over", "remembered", "painted", "measured", "sold", "repaired"];
const WHEN = ["in the early morning", "before the long winter", "after a quiet lunch", "during the storm", "last year"];
const WHY = [
  "because nobody else had asked",
  "although the road was closed",
  "and everyone agreed that it was worth the trouble",
  "while the others waited outside",
  "so that the work could go on",
];

/** A sentence of plain prose by template. */
export const sentence = (random: Random): string =>
  `${random.pick(WHO)} ${random.pick(DID)} the ${random.pick(ADJECTIVES)} ${random.pick(NOUNS)} ${random.pick(WHEN)}, ${random.pick(WHY)}.`;

/** `count` keys of two words, or of three where pairs run short; no two alike. */
export function keys(random: Random, count: number): string[] {
  const isMany = count > (ADJECTIVES.length * NOUNS.length) / 2;
  const found = new Set<string>();
  while (found.size < count) {
    const end = isMany ? `-${random.pick(NOUNS)}` : "";
    found.add(`${random.pick(ADJECTIVES)}-${random.pick(NOUNS)}${end}`);
  }
  return [...found];
}
