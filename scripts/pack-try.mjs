// npm run pack:try: the package as npm packs it, looked at by publint and attw, then installed into an empty folder and
// used there as in scripts/pack-try/use.mjs by this Node, each runtime that build/runtimes has
// (scripts/fetch-runtimes.mjs), workerd and browsers: bundled by esbuild as users bundle, and in browsers unbundled too.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { HOSTS } from "./pack-try/hosts.mjs";

const folder = mkdtempSync(join(tmpdir(), "svdq-pack-"));
// A batch file on Windows, which takes a shell to start.
const npm = (args, cwd) => execFileSync("npm", args, { cwd, encoding: "utf8", shell: process.platform === "win32" });
try {
  npm(["pack", "--silent", "--ignore-scripts", "--pack-destination", folder]);
  const tarball = join(
    folder,
    readdirSync(folder).find((name) => name.endsWith(".tgz")),
  );
  const look = (path, ...args) =>
    execFileSync(process.execPath, [`node_modules/${path}`, ...args], { stdio: "inherit" });
  look("publint/src/cli.js", "run", tarball, "--strict");
  look("@arethetypeswrong/cli/dist/index.js", tarball, "--profile", "esm-only", "--format", "ascii", "--quiet");
  console.log("publint and attw: clean");

  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }));
  npm(["install", "--silent", "--offline", "--no-audit", "--no-fund", tarball], folder);
  for (const name of ["use.mjs", "print.mjs", "page.mjs", "worker.mjs"]) {
    copyFileSync(fileURLToPath(new URL(`pack-try/${name}`, import.meta.url)), join(folder, name));
  }
  for (const { name, missing, use } of HOSTS) {
    if (missing) {
      console.log(`${name}: not run, ${missing}`);
      continue;
    }
    await use(folder);
    console.log(`${name}: runs`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
