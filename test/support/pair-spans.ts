/** Spans of rotary pairs for tests: none, long and short ones mixed, from 32 on; not in the order of the pairs. */
import type { PairSpan } from "../../src/codec/anchors.ts";

const SPANS: PairSpan[] = [null, 64, 32, 256, 32, null, 128];

export const pairSpans = (pairs: number): PairSpan[] =>
  Array.from({ length: pairs }, (_, i) => SPANS[i % SPANS.length]);
