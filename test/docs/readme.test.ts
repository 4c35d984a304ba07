/** What README.md shows is what runs: its code is the file in examples/, and every file that the documents link to exists. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { testDirectory } from "../support/directory.ts";

const pathOf = testDirectory();
const README = readFileSync("README.md", "utf8");
const DOCUMENTS = [".", "docs", "docs/adr", "bench"].flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".md"))
    .map((name) => join(folder, name)),
);

describe("the example of README.md", () => {
  it("is examples/library.mjs, word for word", () => {
    const [, shown] = README.match(/```js\n([\s\S]*?)```/) ?? [];
    const code = readFileSync("examples/library.mjs", "utf8").replace(/^\/\/.*\n/, "");
    expect(shown).toBe(code);
  });

  it("prints what stands below it", () => {
    const run = spawnSync(process.execPath, ["examples/library.mjs", pathOf("library.svdq")], { encoding: "utf8" });
    expect(run).toMatchObject({ status: 0, stderr: "" });
    expect(README).toContain(`\`\`\`\n${run.stdout}\`\`\``);
  });
});

describe("links of the documents", () => {
  it.each(DOCUMENTS)("%s links to files that exist", (path) => {
    const targets = [...readFileSync(path, "utf8").matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map((match) => match[1]);
    const missing = targets.filter((target) => !/^https?:/.test(target) && !existsSync(join(dirname(path), target)));
    expect(missing).toEqual([]);
  });

  it("and the records that the code names are there", () => {
    const files = (folder: string): string[] =>
      readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory() ? files(join(folder, entry.name)) : [join(folder, entry.name)],
      );
    const records = readdirSync("docs/adr").join();
    const named = [...files("src"), ...files("assembly")].flatMap((path) =>
      [...readFileSync(path, "utf8").matchAll(/docs\/adr\/(\d{4})/g)].map(([, number]) => `${number} in ${path}`),
    );
    expect(named.filter((name) => !records.includes(name.slice(0, 4)))).toEqual([]);
  });
});
