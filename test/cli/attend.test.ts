/** `svdq attend`: what it measures on the fixture, budgets, and input that does not fit. */
import { writeFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { beforeEach, describe, expect, it } from "vitest";
import { testDirectory } from "../support/directory.ts";
import { TinyDump } from "../support/tiny-dump.ts";
import { FIXTURE, svdq, svdqJson } from "./cli.ts";

const pathOf = testDirectory();
let archive = "";

beforeEach(() => {
  archive = pathOf("cache.svdq");
});

const SPAN_256 = ["--anchor-span", "256"];
const HEAD_NONE = ["--grouping", "head", "--anchor-span", "none"];

async function attendOn(compressFlags: string[], ...flags: string[]) {
  await svdqJson("compress", FIXTURE, "-o", archive, ...compressFlags);
  return svdqJson("attend", archive, "--queries", FIXTURE, ...flags);
}

describe("attend", () => {
  it.each([
    [SPAN_256, { grouping: "layer", anchorSpan: 256, error: 0.03, kl: 0.08 }],
    [HEAD_NONE, { grouping: "head", anchorSpan: null, error: 0.08, kl: 0.2 }],
  ])("%j", async (flags, { grouping, anchorSpan, error, kl }) => {
    const result = await attendOn(flags);
    expect(result).toMatchObject({ input: archive, queries: FIXTURE, grouping, anchorSpan, budget: null });
    expect(result).toMatchObject({ tokens: 64, firstLength: 1665, layers: 2, recall: 1, attendedWeight: 1 });
    // Measured 0.0155 and 0.042, 0.050 and 0.127.
    expect(result.outputError).toBeLessThan(error);
    expect(result.attentionKl).toBeLessThan(kl);
    expect(Math.min(result.outputError, result.attentionKl)).toBeGreaterThan(0.001);
    for (const name of ["secondsPerToken", "secondsPerTokenF32", "secondsPerAppend"]) {
      expect(result[name]).toBeGreaterThan(0);
    }
  });

  it("counts bytes", async () => {
    const result = await attendOn(HEAD_NONE);
    const rowBytes = 2 * 3 * 64;
    // Two layers, keys and values; lengths 1665 to 1728.
    expect(result.bytesReadF16).toBe(2 * 2 * rowBytes * 1696.5);
    expect(result.cacheBytesF16).toBe(2 * 2 * rowBytes * 1728);
    expect(result.storageRatio).toBeCloseTo(result.cacheBytesF16 / result.cacheBytes, 9);
    // 16 bits over 1.25, but for tokens that the last block lacks.
    expect(result.keyTraffic.scored).toBeGreaterThan(12.4);
    expect(result.keyTraffic.scored).toBeLessThan(13.2);
    expect(result.keyTraffic.scoredAndScanned).toBe(result.keyTraffic.scored);
    expect(result.keyTraffic.all).toBeLessThan(result.keyTraffic.scored);
    expect(result.bytesRead).toBeLessThan(result.bytesReadF16 / 4);
  });

  it.each(["1/32", "0.03125", "50"])("reads few keys with a budget of %s", async (budget) => {
    const result = await attendOn(HEAD_NONE, "--budget", budget);
    expect(result).toMatchObject({ budget: budget === "50" ? 50 : 1 / 32, selection: "tokens" });
    expect(result.recall > 0.02 && result.recall < 0.9).toBe(true);
    expect(result.attendedWeight > 0.3 && result.attendedWeight < 1).toBe(true);
    // Two blocks of about 51.
    expect(result.keyTraffic.scored).toBeGreaterThan(300);
    expect(result.keyTraffic.scoredAndScanned).toBeLessThan(40);
  });

  it("finds more with more", async () => {
    const few = await attendOn(SPAN_256, "--budget", "1/16");
    const many = await svdqJson("attend", archive, "--queries", FIXTURE, "--budget", "1/2");
    const all = await svdqJson("attend", archive, "--queries", FIXTURE, "--budget", "100000");
    for (const name of ["recall", "attendedWeight", "bytesRead"]) expect(many[name]).toBeGreaterThan(few[name]);
    expect(many.outputError).toBeLessThan(few.outputError);
    expect(all).toMatchObject({ recall: 1, attendedWeight: 1 });
  });

  it("prints a row each of several budgets, the same as one by one", async () => {
    const rows = await attendOn(SPAN_256, "--budget", "1/4,1/16");
    expect(rows).toMatchObject([{ budget: 0.25 }, { budget: 1 / 16 }]);
    expect(rows[0].recall).toBeGreaterThan(rows[1].recall);
    const one = await svdqJson("attend", archive, "--queries", FIXTURE, "--budget", "1/16");
    for (const name of ["recall", "attendedWeight", "attentionKl", "outputError", "bytesRead"]) {
      expect(rows[1][name]).toBe(one[name]);
    }
    const { stdout } = await svdq(["attend", archive, "--queries", FIXTURE, "--budget", "1/4,64"]);
    expect(stdout).toMatch(/^budget +by +weight % +top 64 % .*\n25\.0 % +tokens .*\n64 +tokens .*\n$/);
  });

  it("goes by landmarks where spans are short", async () => {
    const result = await attendOn(["--anchor-span", "1"], "--budget", "1/8");
    expect(result).toMatchObject({ anchorSpan: 1, selection: "landmarks" });
    expect(result.recall > 0.2 && result.recall < 1).toBe(true);
  });

  it("goes by landmarks where told to", async () => {
    const result = await attendOn(SPAN_256, "--budget", "1/8", "--selection", "landmarks");
    const planes = await svdqJson("attend", archive, "--queries", FIXTURE, "--budget", "1/8");
    expect(result.selection).toBe("landmarks");
    expect(result.recall).not.toBe(planes.recall);
  });

  it("is faster and less exact with coarser steps and tolerance", async () => {
    const fine = await attendOn(HEAD_NONE, "--score-step", "0.0001", "--mix-tolerance", "0");
    const coarse = await svdqJson(
      "attend", archive, "--queries", FIXTURE, "--score-step", "0.5", "--mix-tolerance", "0.3",
    ); // biome-ignore format: one command
    expect(coarse.bytesRead).toBeLessThan(fine.bytesRead);
    expect(coarse.outputError).toBeGreaterThan(fine.outputError);
    expect(fine).toMatchObject({ scoreStep: 0.0001, mixTolerance: 0 });
  });

  it("says the same twice, but for times", async () => {
    const once = await attendOn(SPAN_256, "--budget", "1/8");
    const twice = await svdqJson("attend", archive, "--queries", FIXTURE, "--budget", "1/8");
    const withoutTimes = (result: object) =>
      Object.fromEntries(Object.entries(result).filter(([name]) => !name.startsWith("seconds")));
    expect(withoutTimes(twice)).toEqual(withoutTimes(once));
  });

  it("says in words what it measured", async () => {
    await attendOn(HEAD_NONE);
    const { code, stdout, stderr } = await svdq(["attend", archive, "--queries", FIXTURE, "--budget", "1/8"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^tokens +64 from a length of 1,665 on, 2 layers$/m);
    expect(stdout).toMatch(
      /^selection +12\.5 % of coded tokens, each kv head its own: .* % of the weight, .* of the top 64 tokens$/m,
    );
    expect(stdout).toMatch(
      /^time a token +[\d.]+ ms, f32 kernels [\d.]+ ms: [\d.]+ times (as fast|slower than they); append/m,
    );
    expect(stdout).toMatch(/^key traffic +f16 keys over codes scored \d+\.?\d*, with what is scanned/m);
  });

  it("shows a bar on a terminal and stops on Ctrl-C, between tokens too", async () => {
    await attendOn(["--anchor-span", "1"], "--budget", "64");
    const args = ["attend", archive, "--queries", FIXTURE];
    expect((await svdq(args, { terminal: true })).stderr).toContain("2/2");
    const stop = new AbortController();
    const [outcome] = await Promise.all([svdq(args, { signal: stop.signal }), wait(200).then(() => stop.abort())]);
    expect(outcome).toEqual({ code: 130, stdout: "", stderr: "svdq: stopped\n" });
  });
});

describe("the dump", () => {
  const dump = () => pathOf("dump.safetensors");
  const write = (edit: (dump: TinyDump) => void = () => undefined, shape = {}): void => {
    const tiny = new TinyDump({ tokens: 100, ...shape });
    edit(tiny);
    writeFileSync(dump(), tiny.bytes());
  };
  const ids = (first: number) => (tiny: TinyDump) => {
    const bytes = new Uint8Array(Int32Array.from({ length: 100 }, (_, i) => (i === 7 ? first : i)).buffer);
    tiny.tensors.tokens = { dtype: "I32", shape: [100], bytes };
  };

  async function compressTiny(tokens: number, edit?: (dump: TinyDump) => void): Promise<void> {
    write(edit);
    await svdqJson("compress", dump(), "-o", archive, "--anchor-span", "32", "--tokens", String(tokens));
  }

  async function expectFailure(message: RegExp): Promise<void> {
    const { code, stdout, stderr } = await svdq(["attend", archive, "--queries", dump(), "--json"]);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^svdq: .*dump\.safetensors: [^\n]+\n$/);
    expect({ code, stdout }).toEqual({ code: 3, stdout: "" });
  }

  it("may hold tokens between the archive's and the first query", async () => {
    await compressTiny(80);
    const result = await svdqJson("attend", archive, "--queries", dump());
    expect(result).toMatchObject({ tokens: 3, firstLength: 98, layers: 2 });
    expect(result.cacheBytesF16).toBe(2 * 2 * 2 * 2 * 32 * 100);
  });

  it("must have queries behind the archive's tokens", async () => {
    await compressTiny(100);
    await expectFailure(
      /queries: expected some behind the 100 tokens of the archive, got those of tokens 97 to 99 of 100/,
    );
    write((tiny) => {
      for (const name of Object.keys(tiny.tensors)) if (name.endsWith("query")) delete tiny.tensors[name];
    });
    await expectFailure(/queries: expected some behind the 100 tokens of the archive, got none of 100 tokens/);
  });

  it.each([
    [
      { kvHeads: 1 },
      /geometry: expected 2 layers of 2 kv heads x 32 as the archive has, got 2 layers of 1 kv heads x 32/,
    ],
    [{ headDim: 64 }, /geometry: expected .* x 32 as the archive has, got .* x 64/],
    [{ layers: [0] }, /geometry: expected 2 layers .*, got 1 layers/],
    [{ layers: [0, 3] }, /layers: expected 0,1 as the archive has, got 0,3/],
    [{ tokens: 90 }, /tokens: expected more than the archive's 97, got 90/],
  ])("must have the archive's geometry: %j", async (shape, message) => {
    await compressTiny(97);
    write(undefined, shape);
    await expectFailure(message);
  });

  it("must be of the archive's model and text", async () => {
    await compressTiny(97, ids(7));
    write((tiny) => void (tiny.metadata.rope_theta = "20000"));
    await expectFailure(/rotary frequency 1: expected 0\.56\d* as the archive has, got 0\.53\d*/);
    write((tiny) => void (tiny.metadata.rope_layout = "interleaved"));
    await expectFailure(/rotary layout: expected half-split as the archive has, got interleaved/);
    write((tiny) => void (tiny.metadata.model = "other"));
    await expectFailure(/model: expected "tiny" as the archive has, got "other"/);
    write(ids(9));
    await expectFailure(/id of token 7: expected 7 as the archive has, got 9/);
    write(ids(7));
    await svdqJson("attend", archive, "--queries", dump());
  });

  it("must be finite", async () => {
    await compressTiny(97);
    write((tiny) => {
      const halves = new Uint16Array(tiny.data("layers.1.query").buffer);
      halves[5] = 0x7e00;
      tiny.tensors["layers.1.query"].bytes = new Uint8Array(halves.buffer);
    });
    await expectFailure(/layers\.1\.query: expected finite elements, got 1 of NaN or infinity/);
  });

  it("is no archive, and the archive no dump", async () => {
    await compressTiny(97);
    const swapped = await svdq(["attend", dump(), "--queries", archive]);
    expect(swapped).toMatchObject({ code: 3, stdout: "" });
    expect(swapped.stderr).toMatch(/dump\.safetensors: magic: expected/);
    const twice = await svdq(["attend", archive, "--queries", archive]);
    expect(twice).toMatchObject({ code: 3, stdout: "" });
    expect(twice.stderr).toMatch(/cache\.svdq: expected a safetensors dump, got an svdq archive/);
    expect(await svdq(["attend", archive, "--queries", pathOf("nothing")])).toMatchObject({ code: 4, stdout: "" });
    expect(await svdq(["attend", pathOf("nothing"), "--queries", dump()])).toMatchObject({ code: 4, stdout: "" });
  });
});

describe("options", () => {
  const fraction = /--budget .*Expected a fraction below 1, as 1\/32 or 0\.03, or a number of tokens/;
  const CASES: [string[], RegExp][] = [
    ...["0", "-1", "1.5", "1/1", "3/2", "1/0", "0/4", "1e10"].map((text): [string[], RegExp] => [
      [`--budget=${text}`],
      fraction,
    ]),
    [["--budget", "many"], /--budget .*Expected a number/],
    [["--budget", "1/"], /--budget .*Expected a number/],
    [["--selection", "tokens"], /--selection: expected --budget with it, got none/],
    [
      ["--budget", "9", "--selection", "luck"],
      /--selection .*'luck' is invalid\. Allowed choices are tokens, blocks, landmarks/,
    ],
    [["--score-step", "0"], /--score-step: expected a number from 0\.000001 to 1, got 0/],
    [["--score-step", "fine"], /--score-step .*Expected a number/],
    [["--mix-tolerance", "2"], /--mix-tolerance: expected a number from 0 to 1, got 2/],
    [["--frobnicate"], /unknown option '--frobnicate'/],
  ];

  it.each(CASES)("%j", async (flags, message) => {
    const { code, stdout, stderr } = await svdq(["attend", archive, "--queries", FIXTURE, ...flags]);
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });

  it("the dump is required", async () => {
    const { code, stderr } = await svdq(["attend", archive]);
    expect(stderr).toMatch(/required option '--queries <dump>' not specified/);
    expect(code).toBe(2);
  });
});
