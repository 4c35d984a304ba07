// npm run demo: compress, restore and compare on the real cache that the repository carries, through the command line.
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const DUMP = "test/fixtures/smollm2-novel.safetensors";
const ARCHIVE = "demo/out/novel.svdq";
const RESTORED = "demo/out/novel.safetensors";
const CHART = "demo/out/novel.svg";
mkdirSync("demo/out", { recursive: true });

const svdq = (...args) => {
  console.log(`$ svdq ${args.join(" ")}`);
  const options = { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] };
  return JSON.parse(execFileSync(process.execPath, ["dist/cli.js", ...args, "--json"], options));
};
const kB = (bytes) => `${Math.round(bytes / 1000)} kB`;
const two = (number) => number.toFixed(2);

const packed = svdq("compress", DUMP, "-o", ARCHIVE);
const { kvHeads, headDim } = packed.geometry;
const exact = packed.bytes.keys.exact + packed.bytes.values.exact;
const basis = packed.bytes.keys.basis + packed.bytes.values.basis;
console.log(`
  ${packed.model}: layers ${packed.layerNumbers.join(" and ")}, ${kvHeads} kv heads x ${headDim}, ${packed.tokens} tokens of a novel
  ${kB(packed.f16Bytes)} in f16 -> ${kB(packed.totalBytes)} in ${two(packed.seconds)} s: ${two(packed.ratio)} times smaller
  keys ${two(packed.bits.keys.bits)} bits an element, values ${two(packed.bits.values.bits)}
  of the archive ${kB(exact)} are exact tokens and ${kB(basis)} the bases: both hardly grow with the text
`);

const restored = svdq("restore", ARCHIVE, "-o", RESTORED);
console.log(`
  ${kB(restored.totalBytes)} of f16 again in ${two(restored.seconds)} s
`);

const rows = svdq("compare", DUMP, "--svg", CHART);
const SHOWN = [
  "K codec layer span 1 2",
  "K codec layer span 1 1.25",
  "K SVDq paper [4, 4, 2, 0, 0, 0, 0, 0]",
  "K KIVI 2 bit, groups of 32",
  "K TurboQuant 3",
  "K ggml q4_0",
  "V codec layer 2",
  "V codec layer 1",
  "V KIVI 2 bit, groups of 32",
  "V TurboQuant 2",
  "V ggml q4_0",
];
const line = (name, bits, withBasis, kl, error) =>
  console.log(`  ${name.padEnd(40)}${bits.padStart(6)}${withBasis.padStart(9)}${kl.padStart(14)}${error.padStart(14)}`);
console.log("\n  What it costs the next 64 tokens' attention: one of keys and values compressed, the other exact\n");
line("", "bits", "+ basis", "attention KL", "output error");
for (const name of SHOWN) {
  const row = rows.find(({ method }) => method === name);
  const kl = row.kind === "key" ? row.attentionKl.toFixed(4) : "-";
  line(name, two(row.bits), two(row.bitsWithBasis), kl, row.outputError.toFixed(4));
}
console.log(`\n  All ${rows.length} methods as a chart: ${CHART}`);
