/** Texts that svdq makes: seeded, their tails at the end of the context, answerable from their heads alone. */
import { describe, expect, it } from "vitest";
import { mostUnits } from "../../../src/evaluation/tasks/most-units.ts";
import { Random } from "../../../src/evaluation/tasks/random.ts";
import { makeCode } from "../../../src/evaluation/texts/code.ts";
import { TEXTS } from "../../../src/evaluation/texts/index.ts";
import { makeNeedles } from "../../../src/evaluation/texts/needles.ts";
import { makeRecords } from "../../../src/evaluation/texts/records.ts";

const CONTEXT = 900;
const tokensOf = (text: string): string[] => text.match(/\w+|[^\w\s]/g) ?? [];
const count = (text: string): number => tokensOf(text).length;

describe.each(TEXTS)("$name", ({ name, text }) => {
  const one = text(1, CONTEXT, count);

  it("is longer than context and continuation, and the same for the same seed", () => {
    expect(count(one)).toBeGreaterThan(CONTEXT + 256);
    expect(text(1, CONTEXT, count)).toBe(one);
    if (name !== "novel") expect(text(2, CONTEXT, count)).not.toBe(one);
  });
});

describe.each([
  { name: "code", make: makeCode, facts: /above (\d{4})"/g },
  { name: "records", make: makeRecords, facts: /(?:for|Order) ([\d.]+)\b/g },
  { name: "needles", make: makeNeedles, facts: /is (\d{6})\./g },
])("$name", ({ make, facts, name }) => {
  it("says nothing at its end that its head does not hold", () => {
    const { head, tail } = make(new Random(5), 12);
    const asked = [...tail.matchAll(facts)].map((match) => match[1].replace(/\.$/, ""));
    expect(asked.length).toBeGreaterThanOrEqual(12);
    for (const fact of asked) expect(head).toContain(fact);
  });

  it("has its tail begin right behind the context", () => {
    const { text } = TEXTS.find((one) => one.name === name)!;
    const string = text(3, CONTEXT, count);
    const units = mostUnits((n) => count(make(new Random(3), n).head) <= CONTEXT);
    const { head, tail } = make(new Random(3), units);
    expect(string).toBe(head + tail);
    expect(count(head)).toBeGreaterThan(CONTEXT - 100);
    expect(count(head)).toBeLessThanOrEqual(CONTEXT);
  });
});

it("mostUnits finds the last that fits", () => {
  for (const most of [0, 1, 2, 7, 1000]) expect(mostUnits((units) => units <= most)).toBe(most);
});
