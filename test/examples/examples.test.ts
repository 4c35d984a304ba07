/** Every example runs and says what it should, on the real engines where scripts/fetch-engine.mjs has brought them. */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { testDirectory } from "../support/directory.ts";
import { realGguf } from "../support/real-gguf.ts";

const ENGINES = resolve("build/engines/node_modules");
const ONNX = "models/SmolLM2-135M-Instruct-ONNX";
const pathOf = testDirectory();

interface Example {
  name: string;
  says: RegExp;
  needs: string[];
}
const EXAMPLES: Example[] = [
  { name: "library", says: /^keys: 1\.27 bits.*\nlayer 5: .* bytes of f16\n$/, needs: [] },
  { name: "live-cache", says: /^1728 tokens, .*\nsaved: 1728 tokens\n$/, needs: [] },
  { name: "store", says: /^1664 of 1667 tokens are held, 2 layers\n$/, needs: [] },
  {
    name: "node-llama-cpp",
    says: /^\d+ tokens in the cache; next "1"\n$/,
    needs: [join(ENGINES, "node-llama-cpp"), realGguf ?? "models/SmolLM2-135M-Instruct.Q4_1.gguf"],
  },
  {
    name: "onnxruntime",
    says: /^159 tokens in the cache; next 260\n$/,
    needs: [join(ENGINES, "onnxruntime-node"), ONNX],
  },
  {
    name: "transformers-js",
    // The same prompt as onnxruntime's: the same next token.
    says: /^167 tokens in the cache; said 260( \d+){7}\n$/,
    needs: [join(ENGINES, "@huggingface/transformers"), ONNX],
  },
];

/** Beside links to this package and to the engines, where `import` finds them; read from the repository's root. */
function run(name: string) {
  const folder = pathOf(name);
  mkdirSync(join(folder, "examples"), { recursive: true });
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(resolve("."), join(folder, "node_modules/svdq"), "dir");
  if (existsSync(ENGINES)) symlinkSync(ENGINES, join(folder, "examples/node_modules"), "dir");
  const copy = join(folder, "examples", `${name}.mjs`);
  copyFileSync(`examples/${name}.mjs`, copy);
  return spawnSync(process.execPath, [copy, join(folder, "out.svdq")], { encoding: "utf8", timeout: 110_000 });
}

describe.each(EXAMPLES)("examples/$name.mjs", ({ name, says, needs }) => {
  const missing = needs.filter((path) => !existsSync(path));
  if (missing.length) console.log(`left out: examples/${name}.mjs (${missing.join(", ")} missing)`);

  it.skipIf(missing.length > 0)("says what it should", () => {
    const { status, stdout, stderr } = run(name);
    expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(says);
  });

  it("is short", () => {
    expect(readFileSync(`examples/${name}.mjs`, "utf8").trimEnd().split("\n").length).toBeLessThan(40);
  });
});

it("none is left out of this list", () => {
  const files = readdirSync("examples").filter((file) => file.endsWith(".mjs"));
  expect(files.sort()).toEqual(EXAMPLES.map(({ name }) => `${name}.mjs`).sort());
});
