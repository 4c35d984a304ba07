/** `svdq weigh` with an engine that is no model and feels its first layer alone. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import { readArchive } from "../../src/archive/reader.ts";
import { readProfile } from "../../src/engines/profile.ts";
import { testDirectory } from "../support/directory.ts";
import { FakeEngine } from "../support/fake-engine.ts";
import { TinyDump } from "../support/tiny-dump.ts";
import { ggufBytes, llamaKeys } from "../support/tiny-gguf.ts";
import { svdq, svdqJson } from "./cli.ts";

const pathOf = testDirectory();
let engine: FakeEngine;
beforeEach(async () => {
  engine = new FakeEngine();
  writeFileSync(pathOf("model.gguf"), ggufBytes(llamaKeys(), { "output.weight": [1] }));
  writeFileSync(pathOf("a.txt"), "one three fifteen ".repeat(60));
  writeFileSync(pathOf("queries"), new TinyDump({ tokens: 300 }).bytes());
  await svdqJson("profile", pathOf("queries"), "-o", pathOf("bare"));
});
const weigh = (...args: string[]) =>
  svdq(["weigh", pathOf("bare"), "--model", pathOf("model.gguf"), "-o", pathOf("out"), ...args], {
    openEngine: engine.open,
  });
const SHORT = ["--context", "150", "--continue", "20", "--layers", "1"];

describe("weigh", () => {
  it("writes the profile with what each layer counts, most where the model feels it", async () => {
    const { code, stdout } = await weigh("--text", pathOf("a.txt"), ...SHORT, "--json");
    expect(code).toBe(0);
    const { weights } = JSON.parse(stdout) as { weights: { layer: number; keys: number; values: number }[] };
    expect(weights.map(({ layer }) => layer)).toEqual([0, 1]);
    for (const kind of ["keys", "values"] as const) {
      expect(weights[0][kind] * weights[1][kind]).toBeCloseTo(1, 6);
      expect(weights[0][kind]).toBeGreaterThan(4);
    }
    const [bare, out] = [await readProfile(pathOf("bare")), await readProfile(pathOf("out"))];
    expect(out).toMatchObject({ model: bare.model, moments: bare.moments });
    expect(out.weights!.get(0)!.keys).toBeCloseTo(weights[0].keys, 6);
    // One text: its exact run, keys of two layers, values of two layers.
    expect(engine.calls).toEqual(["clear", "feed", ...new Array(5).fill("load"), "dispose"]);
  });

  it("measures as if it had not before, and compress takes what it found", async () => {
    await weigh("--text", pathOf("a.txt"), ...SHORT);
    const first = readFileSync(pathOf("out"));
    const again = await svdq(
      [
        "weigh",
        pathOf("out"),
        "--model",
        pathOf("model.gguf"),
        "-o",
        pathOf("twice"),
        "--text",
        pathOf("a.txt"),
        ...SHORT,
      ],
      { openEngine: engine.open },
    );
    expect(again.code).toBe(0);
    expect(readFileSync(pathOf("twice"))).toEqual(first);
    const sizes: number[][] = [];
    for (const profile of ["bare", "out"]) {
      const flags = ["--recent", "8", "--key-bits", "1.5", "--profile", pathOf(profile)];
      await svdqJson("compress", pathOf("queries"), "-o", pathOf("c"), ...flags);
      const { layers } = await readArchive(pathOf("c"));
      sizes.push(layers.map(({ keys }) => keys.reduce((sum, { planes }) => sum + planes.length, 0)));
    }
    expect(sizes[1][0]).toBeGreaterThan(sizes[0][0]);
    expect(sizes[1][1]).toBeLessThan(sizes[0][1]);
  });

  it.each<[string, string[], number, RegExp]>([
    ["a short context", ["--context", "60"], 2, /--context: expected at least 69, got 60/],
    ["a short text", ["--context", "500"], 3, /a\.txt: .*expected at least/],
  ])("refuses %s, and writes nothing", async (_, args, code, message) => {
    const failed = await weigh("--text", pathOf("a.txt"), ...args);
    expect(failed).toMatchObject({ code, stdout: "" });
    expect(failed.stderr).toMatch(message);
    expect(existsSync(pathOf("out"))).toBe(false);
  });
});
