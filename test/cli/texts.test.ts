/** `svdq texts`: files of texts, the same of the same seed. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { testDirectory } from "../support/directory.ts";
import { svdq, svdqJson } from "./cli.ts";

const pathOf = testDirectory();

describe("texts", () => {
  it("of each kind and seed, as long as asked for, that ask for what they said before", async () => {
    const { files } = await svdqJson("texts", "-o", pathOf("t"), "--seed", "5", "--count", "2", "--length", "2000");
    const kinds = ["code", "needle-single-1", "needle-single-2", "needle-single-3", "needles", "records"];
    expect(readdirSync(pathOf("t")).sort()).toEqual(kinds.flatMap((kind) => [`${kind}-5.txt`, `${kind}-6.txt`]));
    expect(files.length).toBe(12);
    for (const file of files) {
      const text = readFileSync(file, "utf8");
      expect(text.length).toBeGreaterThan(1500);
      expect(text.length).toBeLessThan(2600);
    }
    const [, key, number] = /for (\S+) mentioned in the provided text is (\d+)\.\n$/.exec(
      readFileSync(pathOf("t/needle-single-2-5.txt"), "utf8"),
    )!;
    expect(readFileSync(pathOf("t/needle-single-2-5.txt"), "utf8")).toContain(`for ${key} is: ${number}.`);
    await svdqJson("texts", "-o", pathOf("again"), "--seed", "6", "--count", "1", "--length", "2000");
    for (const kind of kinds) {
      const [one, other] = ["t", "again"].map((folder) => readFileSync(pathOf(`${folder}/${kind}-6.txt`), "utf8"));
      expect(other).toBe(one);
    }
  });

  it("refuses a length that holds nothing", async () => {
    const outcome = await svdq(["texts", "-o", pathOf("t"), "--length", "20"]);
    expect(outcome).toMatchObject({ code: 2, stdout: "" });
    expect(outcome.stderr).toContain("context: expected enough for one unit of the task, got 20");
    writeFileSync(pathOf("file"), "");
    const file = await svdq(["texts", "-o", pathOf("file"), "--length", "2000"]);
    expect(file).toMatchObject({ code: 2, stdout: "" });
    expect(file.stderr).toContain("--output: expected a folder, got ");
  });
});
