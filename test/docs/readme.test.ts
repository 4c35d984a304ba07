/** What README.md and docs/library.md show is what runs: the files in examples/. Every file that the documents link to exists. */
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

const LIBRARY = readFileSync("docs/library.md", "utf8");
const EXAMPLES = ["library", "live-cache"];

describe.each(EXAMPLES)("examples/%s.mjs", (name) => {
  it("stands in docs/library.md, word for word", () => {
    const code = readFileSync(`examples/${name}.mjs`, "utf8").replace(/^\/\/.*\n/, "");
    expect(LIBRARY).toContain(`\`\`\`js\n${code}\`\`\``);
  });

  it("prints what stands below it", () => {
    const run = spawnSync(process.execPath, [`examples/${name}.mjs`, pathOf(`${name}.svdq`)], { encoding: "utf8" });
    expect(run).toMatchObject({ status: 0, stderr: "" });
    expect(LIBRARY).toContain(`\`\`\`\n${run.stdout}\`\`\``);
  });
});

describe("the code of README.md", () => {
  const snippets = [...README.matchAll(/\]\((examples\/[\w-]+\.mjs)\)(?:(?!```).)*?\n\n```js\n(.*?)```/gs)].map(
    ([, path, code]) => ({ path, lines: code.trimEnd().split("\n") }),
  );

  it.each(snippets)("$path: three of its lines, in their order", ({ path, lines }) => {
    const example = readFileSync(path, "utf8")
      .split("\n")
      .map((line) => line.trim());
    expect(lines).toHaveLength(3);
    expect(example.filter((line) => lines.includes(line))).toEqual(lines);
  });

  it("is of no other place", () => {
    expect(README.match(/```js\n/g)).toHaveLength(snippets.length);
    expect(snippets.length).toBeGreaterThanOrEqual(5);
  });
});

describe("links of the documents", () => {
  it.each(DOCUMENTS)("%s links to files that exist", (path) => {
    const targets = [...readFileSync(path, "utf8").matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map((match) => match[1]);
    const missing = targets.filter((target) => !/^https?:/.test(target) && !existsSync(join(dirname(path), target)));
    expect(missing).toEqual([]);
  });

  it.each(DOCUMENTS)("%s links to headings that exist", (path) => {
    const targets = [...readFileSync(path, "utf8").matchAll(/\]\(([^)#\s:]*)#([^)\s]+)\)/g)];
    const missing = targets.filter(([, file, anchor]) => {
      const document = file === "" ? path : join(dirname(path), file);
      return document.endsWith(".md") && !anchorsOf(readFileSync(document, "utf8")).includes(anchor);
    });
    expect(missing.map(([link]) => link)).toEqual([]);
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

/** As GitHub makes them of headings. */
function anchorsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}
