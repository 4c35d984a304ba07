/** `svdq eval` with an engine that is no model: rows, choice of methods, bad input, what is left behind. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { writeProfile } from "../../src/engines/profile.ts";
import { EVAL_METHODS } from "../../src/evaluation/eval/methods.ts";
import { findNodeLlama } from "../../src/evaluation/eval/node-llama-cpp.ts";
import type { EvalRow } from "../../src/evaluation/eval/report.ts";
import { testDirectory } from "../support/directory.ts";
import { FakeEngine } from "../support/fake-engine.ts";
import { ggufBytes, llamaKeys, u32 } from "../support/tiny-gguf.ts";
import { tinyProfile } from "../support/tiny-profile.ts";
import { tinyLlama, tinyState } from "../support/tiny-state.ts";
import { checkXml } from "../support/xml.ts";
import { type Outcome, svdq, svdqJson } from "./cli.ts";

const pathOf = testDirectory();
const LENGTHS = ["--context", "150", "--continue", "20"];
const KEYS = ["method", "bits", "bitsWithBasis", "perplexityChange", "kl", "kl99", "top1", "seconds"];
let engine: FakeEngine;

beforeEach(() => {
  engine = new FakeEngine();
  writeFileSync(pathOf("model.gguf"), ggufBytes(llamaKeys(), { "output.weight": [1] }));
  writeFileSync(pathOf("a.txt"), "one three fifteen ".repeat(60));
  writeFileSync(pathOf("b.txt"), "fifteen one ".repeat(100));
});

interface Given {
  model?: string;
  texts?: string[];
  signal?: AbortSignal;
}

function evalOf(args: string[], given: Given = {}): Promise<Outcome> {
  const { model = "model.gguf", texts = ["a.txt"], ...more } = given;
  const files = ["--model", pathOf(model), "--text", ...texts.map((name) => pathOf(name))];
  return svdq(["eval", ...files, ...LENGTHS, ...args], { openEngine: engine.open, ...more });
}

async function rowsOf(...[args, given]: Parameters<typeof evalOf>): Promise<EvalRow[]> {
  const { code, stdout, stderr } = await evalOf([...args, "--json"], given);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout);
}

describe("eval", () => {
  it("prints a row a method, the floor first, and what is lost grows as bits fall", async () => {
    const rows = await rowsOf([]);
    expect(rows.map((row) => row.method)).toEqual(EVAL_METHODS.map((method) => method.name));
    expect(rows[0].method).toBe("8-bit rounding");
    for (const row of rows) {
      expect(Object.keys(row)).toEqual(KEYS);
      expect(row.kl > 0 && row.kl99 >= row.kl - 1e-12 && row.seconds > 0).toBe(true);
    }
    const klOf = (name: string): number => rows.find((row) => row.method === name)!.kl;
    expect(klOf("8-bit rounding")).toBeLessThan(1e-4);
    expect(klOf("TurboQuant 4")).toBeLessThan(klOf("TurboQuant 2"));
    expect(Math.max(...rows.map((row) => row.kl))).toBe(klOf("window only"));
    // p = 0.5, 0.3, 0.15, 0.05 and q = 0.2, 0.6, 0.15, 0.05.
    expect(klOf("window only")).toBeCloseTo(0.5 * Math.log(2.5) - 0.3 * Math.log(2), 6);
    expect(rows.find((row) => row.method === "window only")!.top1).toBe(0);
  });

  it("computes each context once, scores in chunks of one size, and leaves nothing behind", async () => {
    await rowsOf(["--methods", "q8_0", "--threads", "3"], { texts: ["a.txt", "b.txt"] });
    expect(engine.options).toEqual({ modelPath: pathOf("model.gguf"), threads: 3, contextSize: 186 });
    // A text: exact run, floor, q8_0.
    const text = ["clear", "feed", "load", "load", "load"];
    expect(engine.calls).toEqual([...text, ...text, "dispose"]);
    expect(engine.scored).toEqual(new Array(6).fill([16, 4]).flat());
    expect(engine.paths.size).toBe(1);
    for (const path of engine.paths) expect(existsSync(dirname(path))).toBe(false);
  });

  it("means over texts, and the same text twice is the same row", async () => {
    const flags = ["--methods", "kivi 2"];
    const [once, twice] = [await rowsOf(flags), await rowsOf(flags, { texts: ["a.txt", "a.txt"] })];
    for (const [i, row] of once.entries()) {
      for (const key of ["bits", "bitsWithBasis", "perplexityChange", "kl", "kl99", "top1"] as const) {
        expect(twice[i][key]).toBeCloseTo(row[key], 10);
      }
    }
  });

  it("takes settings of the codec, in place of those of the table", async () => {
    const names = (await rowsOf(["--bits", "1.5/2.5, 3"])).map((row) => row.method);
    expect(names.filter((name) => name.startsWith("codec"))).toEqual([
      "codec layer span 1 K 1.5 V 2.5",
      "codec layer span 1 K 3 V 3",
      "codec entropy span 1 K 1.5 V 2.5",
      "codec entropy span 1 K 3 V 3",
    ]);
    expect(names).toContain("TurboQuant 3");
    const paper = names.filter((name) => name.startsWith("SVDq paper"));
    expect(paper.map((name) => name.replace(/.*\] /, ""))).toEqual(["V 2.5", "V 2.5", "V 3", "V 3"]);
    const chosen = await rowsOf(["--bits", "4", "--methods", "codec layer"]);
    expect(chosen.map((row) => row.method)).toEqual(["8-bit rounding", "codec layer span 1 K 4 V 4"]);
  });

  it("adds rows whose bits are chosen for a target, with a profile only", async () => {
    const without = await evalOf(["--target-kl", "0.01"]);
    expect(without).toMatchObject({ code: 2, stdout: "" });
    expect(without.stderr).toMatch(
      /^svdq: --target-kl: expected a --profile with the model's Fisher information, got none\n$/,
    );
    const out = pathOf("tiny.profile");
    await writeProfile(out, tinyProfile(5));
    const rows = await rowsOf(["--methods", "chosen", "--target-kl", "0.1,0.05", "--profile", out]);
    expect(rows.map(({ method }) => method)).toEqual([
      "8-bit rounding",
      "codec chosen for KL 0.1",
      "codec chosen for KL 0.05",
      "codec entropy chosen for KL 0.1",
      "codec entropy chosen for KL 0.05",
    ]);
    for (const [loose, close] of [rows.slice(1, 3), rows.slice(3)]) {
      expect(loose.bitsWithBasis).toBeLessThan(close.bitsWithBasis);
    }
    const tooClose = await evalOf(["--methods", "chosen", "--target-kl", "0.001", "--profile", out]);
    expect(tooClose).toMatchObject({ code: 3, stdout: "" });
    expect(tooClose.stderr).toMatch(
      /^svdq: targetKl: expected at least [\d.]+, what most bits give here, got 0\.001\n$/,
    );
  });

  it("adds rows on the bases of a profile that has some, without them in the bits", async () => {
    await writeProfile(pathOf("known"), tinyProfile(1));
    writeFileSync(pathOf("state"), tinyState(tinyLlama(200)));
    const out = pathOf("bases.profile");
    const from = [pathOf("known"), pathOf("state"), "--model", pathOf("model.gguf")];
    await svdqJson("profile", ...from, "-o", out, "--bases", "--anchor-span", "1");
    const rows = await rowsOf(["--methods", "profile's,codec layer", "--bits", "1.25/2", "--profile", out]);
    const names = rows.map(({ method }) => method);
    expect(names.slice(1)).toEqual([
      "codec layer span 1 K 1.25 V 2",
      "codec on the profile's bases K 1.25 V 2",
      "codec entropy on the profile's bases K 1.25 V 2",
    ]);
    const sideOf = ({ bits, bitsWithBasis }: EvalRow): number => bitsWithBasis - bits;
    for (const row of rows.slice(2)) expect(sideOf(row)).toBeLessThan(0.5 * sideOf(rows[1]));
  });

  it("says KL text by text, in a second table or where JSON is to have it", async () => {
    const flags = ["--methods", "q4_0,window"];
    const texts = ["a.txt", "b.txt"];
    const { stdout } = await evalOf(flags, { texts });
    const [first, second] = stdout.trimEnd().split("\n\n");
    expect(first.split("\n")).toHaveLength(4);
    expect(second.split("\n")[0]).toMatch(/^KL by text +a\.txt +lost % +b\.txt +lost %$/);
    expect(second.split("\n")[2]).toMatch(/^window only .* 100\.0 .* 100\.0$/);
    const rows = await rowsOf([...flags, "--by-text"], { texts });
    for (const { kl, perplexityChange, byText } of rows) {
      expect(byText.map(({ text }) => text)).toEqual(texts);
      expect((byText[0].kl + byText[1].kl) / 2).toBeCloseTo(kl, 10);
      const logs = byText.map((text) => Math.log1p(text.perplexityChange));
      expect(Math.expm1((logs[0] + logs[1]) / 2)).toBeCloseTo(perplexityChange, 10);
    }
  });

  it("brings texts of its own, 64 tokens of each scored", async () => {
    const outcome = await svdq(
      ["eval", "--model", pathOf("model.gguf"), "--context", "600", "--methods", "q8_0", "--json", "--by-text"],
      { openEngine: engine.open },
    );
    expect(outcome).toMatchObject({ code: 0, stderr: "" });
    const [{ byText }] = JSON.parse(outcome.stdout) as EvalRow[];
    expect(byText.map(({ text }) => text)).toEqual(["novel", "code", "records", "needles"]);
    expect(engine.options!.contextSize).toBe(600 + 64 + 16);
    expect(engine.scored).toEqual(new Array(4 * 3 * 4).fill(16));
  });

  it("prints a table and writes the chart", async () => {
    const svg = pathOf("eval.svg");
    const flags = ["--methods", "span 1 K,q4_0,window", "--svg", svg];
    const { code, stdout, stderr } = await evalOf(flags);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^method +bits +\+basis +ppl % +KL +KL p99 +top-1 % +lost % +seconds$/);
    expect(lines[2]).toMatch(/^window only +0\.00 +0\.00 .* 100\.0 +\d+\.\d\d$/);
    expect(lines).toHaveLength(12);
    const chart = readFileSync(svg, "utf8");
    checkXml(chart);
    expect(chart).toContain("no place on a log scale: window only");
    for (const label of ["codec layer span 1", "codec head span 1", "ggml q4_0"]) expect(chart).toContain(`>${label}<`);
  });

  it("says where weights are quantized: under the table, beside JSON", async () => {
    writeFileSync(pathOf("q8.gguf"), ggufBytes(llamaKeys(), { "output.weight": [1] }, { type: 8 }));
    const note = /^note: quantized weights turn any tiny change into noise; .*\n$/;
    const table = await evalOf(["--methods", "q8_0"], { model: "q8.gguf" });
    expect(`${table.stdout.trimEnd().split("\n").at(-1)}\n`).toMatch(note);
    expect(table.stderr).toBe("");
    const json = await evalOf(["--methods", "q8_0", "--json"], { model: "q8.gguf" });
    expect(json.stderr).toMatch(note);
    expect(JSON.parse(json.stdout)).toHaveLength(2);
  });
});

describe("refused, with nothing on stdout:", () => {
  const expectFailure = ({ code, stdout, stderr }: Outcome, expected: number, message: RegExp): void => {
    expect({ code, stdout, stderr }).toMatchObject({ code: expected, stdout: "" });
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd()).not.toContain("\n");
  };

  it("a text that is too short, or none", async () => {
    writeFileSync(pathOf("short.txt"), "a b c");
    const short = await evalOf([], { texts: ["a.txt", "short.txt"] });
    expectFailure(short, 3, /^svdq: .*short\.txt: text: expected at least 171 tokens \(.*\), got 3\n$/);
    expect(engine.calls).toEqual(["dispose"]);
    expectFailure(await evalOf([], { texts: ["none.txt"] }), 4, /none\.txt/);
  });

  it("a model that is no GGUF file, or of another shape than the state", async () => {
    expectFailure(await evalOf([], { model: "a.txt" }), 3, /^svdq: .*a\.txt: magic: /);
    writeFileSync(pathOf("other.gguf"), ggufBytes(llamaKeys({ block_count: u32(3) }), { w: [1] }));
    expectFailure(await evalOf([], { model: "other.gguf" }), 3, /state: expected 3 layers of 64 elements/);
    expect(engine.calls.at(-1)).toBe("dispose");
    for (const path of engine.paths) expect(existsSync(dirname(path))).toBe(false);
  });

  it("wrong options", async () => {
    expectFailure(await evalOf(["--methods", "gguf"]), 2, /^svdq: --methods: expected .*, got "gguf"; there are: /);
    expectFailure(await evalOf(["--context", "68"]), 2, /^svdq: --context: expected at least 69, got 68\n$/);
    expectFailure(await evalOf(["--continue", "0"]), 2, /--continue/);
    expectFailure(await evalOf(["--svg", pathOf("a.txt")]), 2, /^svdq: --svg: expected another file/);
    for (const bits of ["x", "1/2/3", "2,", "0/2", "2/99", "16", "16/2"]) {
      expectFailure(await evalOf(["--bits", bits]), 2, /--bits|-bits: expected/);
    }
    const long = await svdq(["eval", "--model", pathOf("model.gguf"), "--context", "9000"], {
      openEngine: engine.open,
    });
    expectFailure(long, 2, /^svdq: --text: expected at least 9065 tokens .*, got \d+\n$/);
  });

  it.skipIf(findNodeLlama())("no node-llama-cpp", async () => {
    const args = ["eval", "--model", pathOf("model.gguf"), "--text", pathOf("a.txt")];
    expectFailure(await svdq(args), 3, /^svdq: eval needs node-llama-cpp .*: npm install node-llama-cpp\n$/);
  });

  it("Ctrl-C, in the middle of a continuation", async () => {
    const stop = new AbortController();
    engine.onScore = () => stop.abort();
    const outcome = await evalOf(["--svg", pathOf("eval.svg")], { signal: stop.signal });
    expectFailure(outcome, 130, /^svdq: stopped\n$/);
    expect(engine.scored).toEqual([16]);
    expect(engine.calls.at(-1)).toBe("dispose");
    expect(existsSync(pathOf("eval.svg"))).toBe(false);
    for (const path of engine.paths) expect(existsSync(dirname(path))).toBe(false);
  });
});
