/** RULER's cases: seeded, as long as they may be, answerable from their context; counted by what an engine says. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { TASKS } from "../../../src/evaluation/tasks/index.ts";
import { Random } from "../../../src/evaluation/tasks/random.ts";
import { longestCase, scoreOf } from "../../../src/evaluation/tasks/task.ts";

const TEXT = readFileSync("ARCHITECTURE.md", "utf8");
const words = (text: string): number => text.split(/\s+/).length;

describe.each(TASKS)("$name", ({ make }) => {
  const cases = [1, 2, 3, 4, 5].map((seed) => longestCase(make(TEXT), seed, 600, words));

  it("gives the same case for the same seed, others for others", () => {
    expect(longestCase(make(TEXT), 3, 600, words)).toEqual(cases[2]);
    expect(new Set(cases.map(({ context, question }) => context + question)).size).toBe(cases.length);
  });

  it("fills the length that it may have and holds its answers", () => {
    for (const one of cases) {
      expect(words(one.context)).toBeLessThanOrEqual(600);
      expect(words(one.context)).toBeGreaterThan(400);
      expect(one.answers.length).toBeGreaterThan(0);
      for (const answer of one.answers) expect(one.context).toContain(answer);
      for (const answer of one.answers) expect(one.question).not.toContain(` ${answer} `);
    }
  });

  it("scores the parts of the answers that were said", () => {
    const [one] = cases;
    expect(scoreOf(one, one.answers.join(", ").toUpperCase())).toBe(1);
    expect(scoreOf(one, "")).toBe(0);
    const half = one.any ? 1 : 1 / one.answers.length;
    if (new Set(one.answers).size > 1) expect(scoreOf(one, one.answers[0])).toBeGreaterThanOrEqual(half);
  });

  it("refuses a length that not one unit fits in", () => {
    expect(() => longestCase(make(TEXT), 1, 1, words)).toThrow(
      "context: expected enough for one unit of the task, got 1",
    );
  });
});

it("tasks that ask about a text want one", () => {
  for (const { needsText, make } of TASKS) {
    if (needsText) expect(() => make("Too short.")).toThrow("text: expected at least 8 sentences to ask about, got 0");
  }
  expect(TASKS).toHaveLength(13);
});

it("random numbers are the same everywhere and even", () => {
  const random = new Random(7);
  const counts = new Array<number>(10).fill(0);
  for (let i = 0; i < 10_000; i++) counts[random.below(10)]++;
  for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
  const again = new Random(7);
  expect([again.below(1000), again.below(1000)]).toEqual(
    [new Random(7)].flatMap((one) => [one.below(1000), one.below(1000)]),
  );
  expect(new Random(1).uuid()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});
