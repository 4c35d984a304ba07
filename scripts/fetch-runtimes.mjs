// Brings the runtimes that `npm run bench:runtimes` compares: node scripts/fetch-runtimes.mjs
//
// Node 24, Deno, Bun and workerd from npm into build/runtimes/node_modules, which git ignores. Browsers from Debian
// where apt-get may install them; elsewhere install Chromium, Firefox and WebKitGTK's MiniBrowser by hand.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { platform } from "node:process";

const FOLDER = "build/runtimes";
const PACKAGES = ["node@24.21.0", "deno@2.9.6", "bun@1.4.5", "workerd@1.20261117.1"];
const BROWSERS = ["chromium", "firefox-esr", "webkit2gtk-driver", "xvfb", "xauth"];

mkdirSync(FOLDER, { recursive: true });
const flags = ["--prefix", FOLDER, "--no-save", "--no-audit", "--no-fund"];
execFileSync("npm", ["install", ...flags, ...PACKAGES], { stdio: "inherit", shell: platform === "win32" });

const isRoot = process.getuid?.() === 0;
if (!isRoot || spawnSync("apt-get", ["--version"]).status !== 0) {
  console.log(`browsers: not installed here, which takes apt-get as root: ${BROWSERS.join(" ")}`);
} else {
  execFileSync("apt-get", ["update", "-qq"], { stdio: "inherit" });
  execFileSync("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...BROWSERS], { stdio: "inherit" });
}
