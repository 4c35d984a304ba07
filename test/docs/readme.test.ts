/** What README.md shows is what runs: the files in examples/. Every file that the documents link to exists. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { testDirectory } from "../support/directory.ts";

const pathOf = testDirectory();
const README = readFileSync("README.md", "utf8");
const DOCUMENTS = [".", "docs", "docs/adr", "bench", "demo/worker", "demo/playground"].flatMap((folder) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".md"))
    .map((name) => join(folder, name)),
);

const EXAMPLES = ["library", "live-cache"];

describe.each(EXAMPLES)("examples/%s.mjs", (name) => {
  it("stands in README.md, word for word", () => {
    const code = readFileSync(`examples/${name}.mjs`, "utf8").replace(/^\/\/.*\n/, "");
    expect(README).toContain(`\`\`\`js\n${code}\`\`\``);
  });

  it("prints what stands below it", () => {
    const run = spawnSync(process.execPath, [`examples/${name}.mjs`, pathOf(`${name}.svdq`)], { encoding: "utf8" });
    expect(run).toMatchObject({ status: 0, stderr: "" });
    expect(README).toContain(`\`\`\`\n${run.stdout}\`\`\``);
  });
});

describe("the code of README.md", () => {
  it("is that of the examples and no other", () => {
    expect(README.match(/```js\n/g)).toHaveLength(EXAMPLES.length);
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
