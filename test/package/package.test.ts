/** The package as a user gets it: what npm packs, put into a project that compiles against it and runs it. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, it } from "vitest";
import { testDirectory } from "../support/directory.ts";

const pathOf = testDirectory();
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const TSC = join(ROOT, "node_modules/typescript/bin/tsc");

const USE = `
import { createRuntime, decodeArchive, encodeArchive, frequenciesOf, type KvCache } from "svdq";
import type { CacheOptions } from "svdq";
import { openDump } from "svdq/engines/safetensors";
import * as transformers from "svdq/engines/transformers-js";
import * as onnxruntime from "svdq/engines/onnxruntime";
import * as llama from "svdq/engines/llama-cpp";
import * as reference from "svdq/reference";
import { MemoryStore, PrefixStore } from "svdq/store";
import { DurableObjectStore } from "svdq/store/durable-object";
import { FileStore } from "svdq/store/fs";
import { OpfsStore } from "svdq/store/opfs";
import { R2Store } from "svdq/store/r2";
import { UnstorageStore } from "svdq/store/unstorage";
import { WorkersKvStore } from "svdq/store/workers-kv";

const options: Partial<CacheOptions> = { fitTokens: 64 };
const runtime = await createRuntime();
const rotary = { layout: "half-split" as const, frequencies: frequenciesOf(10000, 16) };
const cache: KvCache = runtime.createCache({ layerCount: 1, kvHeads: 1, headDim: 32 }, { rotary, ...options });
const rows = new Float32Array(200 * 32).map((_, i) => Math.sin(i * i));
cache.append(0, rows, rows, { tokens: 200 });
cache.settle();
const again = runtime.openCache(decodeArchive(await new Blob(encodeArchive(cache.save())).arrayBuffer()));
const engines = [openDump, transformers, onnxruntime, llama, reference].every(Boolean);
const backends = [DurableObjectStore, FileStore, OpfsStore, R2Store, UnstorageStore, WorkersKvStore].every(Boolean);
const store = new PrefixStore(new MemoryStore());
const tokens = Int32Array.of(1, 2, 3);
await store.put({ model: "m", tokens, chunks: [{ tokenFrom: 0, tokenTo: 3, bytes: new Uint8Array(5) }] });
const found = await store.match({ model: "m", tokens });
console.log(again.length, again.codedLength(0) > 0, engines && backends, found?.bytes);
`;

beforeEach(() => {
  mkdirSync(pathOf("node_modules"));
  symlinkSync(ROOT, pathOf("node_modules/svdq"), "junction");
  writeFileSync(pathOf("package.json"), '{ "type": "module" }');
  writeFileSync(pathOf("use.ts"), USE);
});

/** What sub-paths throw, by the package's own classes. */
const ERRORS = `
import { SvdqError } from "svdq";
import { parseLlamaState } from "svdq/engines/llama-cpp";
import { openDump } from "svdq/engines/safetensors";
import { MemoryStore, PrefixStore } from "svdq/store";
import { OpfsStore } from "svdq/store/opfs";

const put = { model: "m", tokens: Int32Array.of(1), chunks: [{ tokenFrom: 0, tokenTo: 1, bytes: new Uint8Array(9) }] };
const works = [
  () => parseLlamaState(new Uint8Array(64)),
  () => openDump(new Uint8Array(64)),
  () => new PrefixStore(new MemoryStore(), { budgetBytes: 1 }).put(put),
  () => OpfsStore.open("here"),
];
const errors = await Promise.all(works.map((work) => Promise.resolve().then(work).catch((error) => error)));
console.log(...errors.map((error) => error instanceof SvdqError && error.code));
`;

/** A built file and all that it imports, whatever is needed before the first of its lines runs. */
function filesOf(path: string, found = new Set<string>()): Set<string> {
  if (found.has(path)) return found;
  found.add(path);
  const imports = readFileSync(join(ROOT, path), "utf8").matchAll(/^(?:import|export)\b[^;]*?"(\.[^"]+\.js)"/gm);
  for (const [, target] of imports) filesOf(posix.join(posix.dirname(path), target), found);
  return found;
}

/** What a script prints; what it says where it fails. */
function node(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: pathOf("."), encoding: "utf8" });
  if (status !== 0) throw new Error(`node ${args.join(" ")}: expected exit code 0, got ${status}: ${stdout}${stderr}`);
  return stdout;
}

describe("the package", () => {
  it.each(["nodenext", "bundler"])(
    "compiles in a strict project that resolves as %s, and runs",
    (resolution) => {
      const module = resolution === "bundler" ? "esnext" : "nodenext";
      const lib = ["es2023", "dom", "esnext.disposable"];
      const compilerOptions = { strict: true, target: "es2022", lib, types: [], module, moduleResolution: resolution };
      writeFileSync(pathOf("tsconfig.json"), JSON.stringify({ compilerOptions, include: ["use.ts"] }));
      node(TSC, "-p", ".");
      expect(node("use.js")).toBe("200 true true 5\n");
    },
    60_000,
  );

  it("has one set of errors in all of its entries", () => {
    writeFileSync(pathOf("errors.mjs"), ERRORS);
    expect(node("errors.mjs")).toBe("FORMAT FORMAT CAPACITY UNSUPPORTED\n");
  });

  it("asks a browser for few files: the entry, the core, the errors", () => {
    expect([...filesOf("dist/index.web.js")].map((path) => path.replace(/-.*/, ""))).toEqual([
      "dist/index.web.js",
      "dist/chunks/core",
      "dist/chunks/errors",
    ]);
    expect([...filesOf("dist/store/memory.js")].some((path) => path.includes("core-"))).toBe(false);
  });

  it("packs all that its manifest and its README point at, and no sources", () => {
    const out = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
      cwd: ROOT,
      encoding: "utf8",
      shell: process.platform === "win32", // npm is a batch file there
    });
    const files = new Set<string>(JSON.parse(out)[0].files.map((file: { path: string }) => file.path));
    const manifest = JSON.parse(readFileSync(`${ROOT}/package.json`, "utf8"));
    const targets = Object.values(manifest.exports).flatMap((to) =>
      typeof to === "string" ? to : Object.values(to as object),
    );
    for (const target of [...targets, manifest.bin.svdq]) expect(files).toContain(target.replace("./", ""));
    const readme = readFileSync(`${ROOT}/README.md`, "utf8");
    for (const [, link] of readme.matchAll(/\]\(((?:docs|examples)\/[^)#]+\.md)/g)) expect(files).toContain(link);
    for (const file of files) expect(file).not.toMatch(/^(src|assembly|test|bench|models)\//);
  });
});
