/** `svdq tasks` with an engine that is no model: rows, counts, choice, bad input. */
import { writeFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import type { TaskRow } from "../../src/evaluation/tasks/run.ts";
import { testDirectory } from "../support/directory.ts";
import { FakeEngine } from "../support/fake-engine.ts";
import { ggufBytes, llamaKeys } from "../support/tiny-gguf.ts";
import { svdq } from "./cli.ts";

const pathOf = testDirectory();
let engine: FakeEngine;
beforeEach(() => {
  engine = new FakeEngine();
  writeFileSync(pathOf("model.gguf"), ggufBytes(llamaKeys(), { "output.weight": [1] }));
});
const tasksOf = (...args: string[]) =>
  svdq(["tasks", "--model", pathOf("model.gguf"), "--context", "400", "--cases", "2", ...args], {
    openEngine: engine.open,
  });

describe("tasks", () => {
  it("prints a row a task and method, those that need a text left out", async () => {
    const { code, stdout } = await tasksOf("--methods", "turboquant 2,turboquant 4", "--json");
    expect(code).toBe(0);
    const rows: TaskRow[] = JSON.parse(stdout);
    expect(new Set(rows.map((row) => row.task)).size).toBe(11);
    expect(rows).toHaveLength(22);
    for (const row of rows) {
      expect(row).toMatchObject({ cases: 2 });
      expect(row.kept).toBeLessThanOrEqual(row.solved);
      // This engine says nothing of use.
      expect([row.exact, row.solved]).toEqual([0, 0]);
    }
  });

  it("counts what the exact cache solves and what is kept of it", async () => {
    engine.answer = [1];
    // What it says is all that it was given to read.
    const { tokenize } = engine;
    let read = "";
    engine.tokenizePart = tokenize;
    engine.tokenize = (text) => tokenize((read = text));
    engine.detokenize = (said) => (said.length > 0 ? read : "");
    const { stdout } = await tasksOf("--tasks", "single 1", "--methods", "window only,turboquant 4", "--json");
    const rows = JSON.parse(stdout) as TaskRow[];
    expect(rows.map(({ exact, solved }) => [exact, solved])).toEqual([
      [1, 2],
      [1, 2],
    ]);
    const keptOf = (name: string) => rows.find(({ method }) => method === name)!.kept;
    expect(keptOf("TurboQuant 4")).toBe(2);
    expect(keptOf("window only")).toBe(0);
  });

  it("takes settings of the codec in place of named methods", async () => {
    const { stdout } = await tasksOf("--tasks", "single 1", "--bits", "2/3,8", "--json");
    const names = (JSON.parse(stdout) as TaskRow[]).map(({ method }) => method);
    expect(names).toEqual([
      "codec layer span 1 K 2 V 3",
      "codec layer span 1 K 8 V 8",
      "codec entropy span 1 K 2 V 3",
      "codec entropy span 1 K 8 V 8",
    ]);
  });

  it.each<[string[], string]>([
    [["--tasks", "chess"], '--tasks: expected parts of the names of tasks, got "chess"'],
    [["--tasks", "question"], "--tasks: expected --text beside tasks that ask about one, got none"],
    [["--context", "150"], "--context: common words: expected enough for one unit of the task, got 150"],
    [["--context", "20"], "--context: expected at least 69, got 20"],
    [["--methods", "zip"], '--methods: expected parts of the names of methods, got "zip"'],
  ])("refuses %j", async (args, message) => {
    const { code, stderr } = await tasksOf(...args);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});
