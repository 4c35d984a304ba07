/** The texts that `svdq eval` brings: one of plain prose, and three that cannot go on without their far context. */
import { mostUnits } from "../tasks/most-units.ts";
import { Random } from "../tasks/random.ts";
import { makeCode } from "./code.ts";
import type { MakeText } from "./made-text.ts";
import { makeNeedles } from "./needles.ts";
import { NOVEL } from "./novel.ts";
import { makeRecords } from "./records.ts";

export interface BuiltInText {
  name: string;
  /** A text whose tail begins within the last of `context` tokens. */
  text(seed: number, context: number, count: (text: string) => number): string;
}

const made = (name: string, make: MakeText): BuiltInText => ({
  name,
  text(seed, context, count) {
    const of = (units: number) => make(new Random(seed), units);
    const { head, tail } = of(mostUnits((units) => count(of(units).head) <= context));
    return head + tail;
  },
});

export const TEXTS: BuiltInText[] = [
  { name: "novel", text: () => NOVEL },
  made("code", makeCode),
  made("records", makeRecords),
  made("needles", makeNeedles),
];
