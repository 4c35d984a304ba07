/** `svdq compare`: rows, choice of methods, chart. */
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { chooseMethods } from "../../src/cli/compare.ts";
import { METHODS } from "../../src/evaluation/compare.ts";
import type { ComparisonRow } from "../../src/evaluation/report.ts";
import { testDirectory } from "../support/directory.ts";
import { FIXTURE, svdq, svdqJson } from "./cli.ts";

const pathOf = testDirectory();

/** Time differs from run to run. */
const withoutSeconds = (rows: ComparisonRow[]) => rows.map(({ seconds: _, ...row }) => row);

describe("compare", () => {
  it("prints a row a method, and the codec beats its peers", async () => {
    const rows: ComparisonRow[] = await svdqJson("compare", FIXTURE);
    expect(rows.map((row) => row.method)).toEqual(METHODS.map((method) => method.name));
    for (const row of rows) {
      expect(Object.keys(row).sort()).toEqual(
        ["attentionKl", "bits", "bitsWithBasis", "bytes", "kind", "method", "outputError", "seconds"].sort(),
      );
      expect(row.attentionKl >= 0 && row.outputError > 0 && row.bytes > 0 && row.seconds > 0).toBe(true);
    }
    const klOf = (name: string): number => rows.find((row) => row.method === name)!.attentionKl;
    expect(klOf("K codec layer span 1 1.25")).toBeLessThan(klOf("K TurboQuant 3") / 3);
    expect(klOf("K codec layer span 1 1.25")).toBeLessThan(klOf("K SVDq paper [4, 4, 2, 0, 0, 0, 0, 0]") / 2);
  });

  it("means over files", async () => {
    const flags = ["--methods", "ggml"];
    const [once, twice] = [
      await svdqJson("compare", FIXTURE, ...flags),
      await svdqJson("compare", FIXTURE, FIXTURE, ...flags),
    ];
    expect(withoutSeconds(twice)).toEqual(withoutSeconds(once));
  });

  it("prints a table and writes the chart", async () => {
    const svg = pathOf("chart.svg");
    const { code, stdout, stderr } = await svdq(["compare", FIXTURE, "--methods", "q8_0,KIVI 4", "--svg", svg]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^method +bits +\+basis +attn KL +out err +bytes +seconds$/m);
    expect(stdout.trimEnd().split("\n")).toHaveLength(5);
    expect(readFileSync(svg, "utf8")).toMatch(/^<svg .*<\/svg>\s*$/s);
  });

  it("names the methods that there are where none fits", async () => {
    const { code, stdout, stderr } = await svdq(["compare", FIXTURE, "--methods", "kivi,turbo quant"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/^svdq: --methods: expected .*, got "turbo quant"; there are: .*K TurboQuant 3; .*\n$/);
  });

  it("needs a continuation with queries", async () => {
    const [archive, restored] = [pathOf("cache.svdq"), pathOf("cache.safetensors")];
    await svdqJson("compress", FIXTURE, "-o", archive);
    await svdqJson("restore", archive, "-o", restored);
    const { code, stderr } = await svdq(["compare", restored, "--methods", "q8_0", "--svg", pathOf("chart.svg")]);
    expect(code).toBe(3);
    expect(stderr).toMatch(
      /^svdq: .*cache\.safetensors: compare needs queries after token 1664 in the dump, got none\n$/,
    );
    expect(existsSync(pathOf("chart.svg"))).toBe(false);
  });
});

describe("chooseMethods", () => {
  it("takes parts of names in any case, in the order of the table", () => {
    const names = (...parts: string[]) => chooseMethods(parts).map((method) => method.name);
    expect(names("TURBOQUANT 3", "kivi 2")).toEqual(
      METHODS.map((method) => method.name).filter((name) => /TurboQuant 3|KIVI 2/.test(name)),
    );
    expect(chooseMethods(undefined)).toBe(METHODS);
    expect(() => names("")).toThrow("--methods: expected");
  });
});
