// Proves the invariants of ARCHITECTURE.md that no test shows: what the release module may hold, who may import whom,
// and that nothing ties the package to one machine. Each rule gives the places that break it; none means ok.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, posix } from "node:path";
import { brotliCompressSync } from "node:zlib";
import binaryen from "assemblyscript/binaryen";
import { build } from "esbuild";
import { tsImport } from "tsx/esm/api";

const MODULE = "dist/kernels.wasm";
const MOST_BYTES = 40 * 1024;
const MOST_CORE_BYTES = 60 * 1024;

/** WebAssembly 2.0 as far as kernels need it; relaxed SIMD, threads and all later proposals are absent. */
const { SIMD128, BulkMemory, BulkMemoryOpt, NontrappingFPToInt, SignExt } = binaryen.Features;
const FEATURES = SIMD128 | BulkMemory | BulkMemoryOpt | NontrappingFPToInt | SignExt;

/** Room of src/ -> what it may import besides itself and errors.ts: rooms, or single files that import nothing. */
const SHARED_LEAVES = ["codec/layout.ts", "codec/half.ts"];
const ARROWS = {
  runtime: ["codec/layout.ts"],
  reference: ["runtime", ...SHARED_LEAVES],
  codec: ["runtime"],
  baselines: ["codec"],
  cache: ["codec", "runtime"],
  archive: ["cache", "codec", "runtime"],
  store: ["archive", "cache", "codec", "runtime"],
  engines: ["archive", "cache", "codec", "runtime"],
  evaluation: ["engines", "archive", "baselines", "cache", "codec", "runtime"],
  "index.ts": ["svdq-runtime.ts", "engines", "store", "archive", "evaluation", "cache", "codec", "runtime"],
  "svdq-runtime.ts": ["cache", "codec", "runtime"],
  "runtime/load": ["index.ts", "svdq-runtime.ts", "runtime"],
  cli: [
    "runtime/load",
    "svdq-runtime.ts",
    "index.ts",
    "engines",
    "store",
    "archive",
    "evaluation",
    "baselines",
    "cache",
    "codec",
    "runtime",
  ],
  "errors.ts": [],
};

/** Files of assembly/ that hold no kernel of their own. */
const NO_KERNELS = ["index", "lanes", "jacobi"];

const UNKEPT = new Set(["node_modules", ".git", "dist", "build", "out", "models", "__pycache__"]);

/** Files of the repository under `folder`, without what is built or installed. */
function filesUnder(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (UNKEPT.has(entry.name)) return [];
    const path = posix.join(folder, entry.name);
    return entry.isDirectory() ? filesUnder(path) : [path];
  });
}

const text = (path) => readFileSync(path, "utf8");
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** Every `path:line: match` of a pattern in the files given. */
const grep = (paths, pattern) =>
  paths.flatMap((path) =>
    text(path)
      .split("\n")
      .flatMap((line, i) => (pattern.test(line) ? [`${path}:${i + 1}: ${line.trim().slice(0, 100)}`] : [])),
  );

/** Relative imports of a TypeScript file, as paths from the root. */
function importsOf(path) {
  const found = text(path).matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)"(\.[^"]+)"/g);
  return [...found].map((match) => posix.join(posix.dirname(path), match[1]));
}

/** The longest key of ARROWS that a path from src/ lies in. */
const roomOf = (path) =>
  Object.keys(ARROWS)
    .filter((room) => path === room || path.startsWith(`${room}/`))
    .sort((a, b) => b.length - a.length)[0];

function arrowRule(path) {
  const inSrc = (file) => posix.relative("src", file);
  const room = roomOf(inSrc(path));
  if (room === undefined) return [`${path}: lies in no room`];
  const allowed = [room, "errors.ts", ...ARROWS[room]];
  const broken = importsOf(path).filter((target) => {
    const targetRoom = roomOf(inSrc(target));
    return !allowed.includes(inSrc(target)) && !allowed.includes(targetRoom);
  });
  return broken.map((target) => `${path} imports ${target}`);
}

/** Hashes of two builds from scratch, each by a process of its own. */
function freshBuilds() {
  const folder = mkdtempSync(join(tmpdir(), "svdq-check-"));
  try {
    return ["first", "second"].map((name) => {
      const outFile = join(folder, `${name}.wasm`);
      const asc = "node_modules/assemblyscript/bin/asc.js";
      const output = ["--outFile", outFile, "--textFile", join(folder, `${name}.wat`)];
      execFileSync(process.execPath, [asc, "--config", "asconfig.json", "--target", "release", ...output]);
      return sha256(readFileSync(outFile));
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const bytes = readFileSync(MODULE);
const decoded = binaryen.readBinary(bytes);
const listing = decoded.emitText();
const { KERNEL_NAMES } = await tsImport("../src/runtime/kernels.ts", import.meta.url);
const { KERNEL_LAYOUT } = await tsImport("../src/codec/layout.ts", import.meta.url);

const all = filesUnder(".");
const textFiles = all.filter((path) => !readFileSync(path).subarray(0, 8192).includes(0));
const sources = all.filter((path) => /^src\/.*\.ts$/.test(path));
const code = all.filter((path) => /^(?:src|test|bench|demo|scripts)\/.*\.(?:ts|mjs|js)$/.test(path));

const RULES = {
  "the release module is under 40 kB": () => (bytes.length < MOST_BYTES ? [] : [`${MODULE}: ${bytes.length} bytes`]),

  "the core, JavaScript and kernels, is under 60 kB as hosts send it, by brotli": async () => {
    const { outputFiles } = await build({
      entryPoints: ["dist/index.web.js"],
      bundle: true,
      minify: true,
      format: "esm",
      external: ["node:*"],
      logLevel: "error",
      write: false,
    });
    const size = [outputFiles[0].contents, bytes].reduce((sum, part) => sum + brotliCompressSync(part).length, 0);
    return size < MOST_CORE_BYTES ? [] : [`dist/index.web.js and ${MODULE}: ${size} bytes by brotli`];
  },

  "it is strict SIMD128: no relaxed SIMD, no later proposal": () => {
    decoded.setFeatures(FEATURES);
    if (!decoded.validate()) return [`${MODULE}: instructions outside the features (named above)`];
    return /\bv128\.load\b/.test(listing) ? [] : [`${MODULE}: no SIMD at all`];
  },

  "it imports env.memory only": () =>
    WebAssembly.Module.imports(new WebAssembly.Module(bytes))
      .filter(({ module, name, kind }) => `${kind} ${module}.${name}` !== "memory env.memory")
      .map(({ module, name, kind }) => `${MODULE}: imports ${kind} ${module}.${name}`),

  "it has no memory.grow and no start function": () =>
    (listing.match(/\bmemory\.grow\b|\(start\b/g) ?? []).map((match) => `${MODULE}: ${match}`),

  "it exports the contract, no more and no less": () => {
    const expected = new Set([...KERNEL_NAMES, ...Object.keys(KERNEL_LAYOUT), "ABI_VERSION", "HEAP_BASE"]);
    const found = new Set(WebAssembly.Module.exports(new WebAssembly.Module(bytes)).map(({ name }) => name));
    const missing = [...expected].filter((name) => !found.has(name)).map((name) => `${MODULE}: lacks ${name}`);
    const extra = [...found].filter((name) => !expected.has(name)).map((name) => `${MODULE}: exports ${name} too`);
    return [...missing, ...extra];
  },

  "two builds give the bytes that dist/ holds": () => {
    const [first, second] = freshBuilds();
    const held = sha256(bytes);
    return first === second && first === held ? [] : [`sha256 ${first}, ${second}, ${MODULE} ${held}`];
  },

  "rooms of src/ import downwards only": () => sources.flatMap(arrowRule),

  "files that lower rooms share import nothing": () =>
    SHARED_LEAVES.flatMap((leaf) => importsOf(`src/${leaf}`).map((target) => `src/${leaf} imports ${target}`)),

  "assembly/ imports its siblings only": () =>
    grep(
      all.filter((path) => /^assembly\/.*\.ts$/.test(path)),
      /\bfrom\s+"(?!\.\/\w+")/,
    ),

  "a kernel is a quartet: assembly, twin, test, bench": () =>
    all
      .flatMap((path) => /^assembly\/(\w+)\.ts$/.exec(path)?.[1] ?? [])
      .filter((name) => !NO_KERNELS.includes(name))
      .flatMap((name) => [`src/reference/${name}.ts`, `test/kernels/${name}.test.ts`, `bench/${name}.bench.ts`])
      .filter((path) => !all.includes(path))
      .map((path) => `${path}: is missing`),

  "only heap.ts makes views of linear memory": () =>
    grep(
      code.filter((path) => path !== "src/runtime/heap.ts" && path !== "scripts/check.mjs"),
      /\bmemory\s*\.\s*buffer\b|\{\s*buffer\b[^}]*\}\s*=.*\bmemory\b/,
    ),

  "the lockfile names no registry": () => grep(["package-lock.json"], /"resolved":/),

  "no file names a path of one machine or a registry host": () =>
    grep(
      textFiles.filter((path) => path !== "LICENSE"),
      /(?:^|[\s"'`(=:])\/(?:work|root|home|Users)\/|\/\/[\w.-]*registry[\w.-]*\.\w+/,
    ),
};

/** A rule that cannot be tried is broken: a host may not even compile a module that breaks one. */
async function placesOf(rule) {
  try {
    return await rule();
  } catch (error) {
    return [String(error)];
  }
}

let brokenCount = 0;
for (const [name, rule] of Object.entries(RULES)) {
  const found = await placesOf(rule);
  console.log(`${found.length ? "BROKEN" : "ok    "} ${name}`);
  for (const place of found) console.log(`         ${place}`);
  if (found.length) brokenCount++;
}
if (brokenCount) console.log(`${brokenCount} of ${Object.keys(RULES).length} rules are broken`);
process.exitCode = brokenCount ? 1 : 0;
