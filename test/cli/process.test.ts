/** `svdq` as a process of its own: what only a process can show. Needs dist/, which `npm test` builds. */
import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { testDirectory } from "../support/directory.ts";
import { FIXTURE } from "./cli.ts";

const CLI = "dist/cli.js";
const pathOf = testDirectory();

const svdq = (...args: string[]) => spawnSync(process.execPath, [CLI, ...args], { encoding: "utf8" });

describe("the process", () => {
  it("knows its version and documents its exit codes", () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8"));
    expect(svdq("--version")).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: "" });
    const { status, stdout } = svdq("compress", "--help");
    expect(status).toBe(0);
    for (const line of ["0    done", "1    internal", "2    wrong", "3    a file", "4    the system", "130  stopped"]) {
      expect(stdout).toContain(line);
    }
    expect(svdq()).toMatchObject({ status: 2, stdout: "" });
  });

  it("compresses and restores with the kernels beside it", () => {
    const archive = pathOf("cache.svdq");
    const { status, stdout, stderr } = svdq("compress", FIXTURE, "-o", archive, "--json");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(JSON.parse(stdout).ratio).toBeGreaterThan(4);
    expect(svdq("restore", archive, "-o", pathOf("cache.safetensors"))).toMatchObject({ status: 0, stderr: "" });
  });

  it.skipIf(process.platform === "win32")("keeps the old file when the disk is full", () => {
    const out = pathOf("out.svdq");
    writeFileSync(out, "old");
    // A limit on the size of files stands for a full disk: the system refuses the write that goes past it.
    const command = `ulimit -f 100; exec "${process.execPath}" ${CLI} compress ${FIXTURE} -o "${out}"`;
    const { status, stdout, stderr } = spawnSync("sh", ["-c", command], { encoding: "utf8" });
    expect({ status, stdout }).toEqual({ status: 4, stdout: "" });
    expect(stderr).toMatch(/^svdq: path: expected room for the file, got ".*out\.svdq" \(EFBIG.*\)\n$/);
    expect(readFileSync(out, "utf8")).toBe("old");
    expect(readdirSync(pathOf())).toEqual(["out.svdq"]);
  });

  it.skipIf(process.platform === "win32")("stops cleanly on Ctrl-C", async () => {
    const files = [FIXTURE, FIXTURE, FIXTURE, FIXTURE];
    const child = spawn(process.execPath, [CLI, "compare", ...files, "--svg", pathOf("chart.svg")]);
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => (stdout += chunk));
    child.stderr.on("data", (chunk) => (stderr += chunk));
    await wait(3000);
    child.kill("SIGINT");
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect({ code, stdout, stderr }).toEqual({ code: 130, stdout: "", stderr: "svdq: stopped\n" });
    expect(readdirSync(pathOf())).toEqual([]);
  });
});
