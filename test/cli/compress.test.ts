/** `svdq compress` on the fixture: what it writes, what it says, what its options do. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import { readArchive } from "../../src/archive/reader.ts";
import { spansByFrequency } from "../../src/codec/anchors.ts";
import { frequenciesOf } from "../../src/codec/rotary.ts";
import { testDirectory } from "../support/directory.ts";
import { FIXTURE, svdq, svdqJson } from "./cli.ts";

/** None for the 7 fastest of 32 pairs at theta 1e5. */
const BY_PAIR = spansByFrequency({ frequencies: frequenciesOf(1e5, 32) });

const pathOf = testDirectory();
let out = "";

beforeEach(() => {
  out = pathOf("out.svdq");
});

const compressed = (...flags: string[]) => svdqJson("compress", FIXTURE, "-o", out, ...flags);
const total = (kinds: Record<string, number>): number => Object.values(kinds).reduce((sum, n) => sum + n, 0);

describe("compress", () => {
  it("says as JSON what it wrote", async () => {
    const result = await compressed();
    expect(result).toMatchObject({
      input: FIXTURE,
      output: out,
      model: "SmolLM2-135M-Instruct",
      geometry: { layerCount: 2, kvHeads: 3, headDim: 64 },
      layerNumbers: [5, 20],
      rope: { layout: "half-split", pairs: 32, fastest: 1 },
      tokens: 1664,
      tokenIds: true,
      sinks: 4,
      recent: 64,
      exactType: "f16",
      anchorSpan: 1,
      f16Bytes: 2 * 2 * 2 * 1664 * 192,
      totalBytes: statSync(out).size,
    });
    expect(result.bits.keys.bits).toBeCloseTo(1.25, 1);
    expect(result.bits.keys.bitsWithBasis).toBeGreaterThan(result.bits.keys.bits);
    expect(result.bits.values.bits).toBeCloseTo(2.07, 1);
    const counted = total(result.bytes.keys) + total(result.bytes.values);
    expect(counted).toBeLessThan(result.totalBytes);
    // What is not counted: token ids, header and the zeros between sections.
    expect(result.totalBytes - counted).toBeLessThan(4 * 1664 + 4096);
    expect(result.ratio).toBeCloseTo(result.f16Bytes / result.totalBytes, 10);
    expect(result.seconds).toBeGreaterThan(0);
  });

  it("says the same in words, and nothing on stderr", async () => {
    const { code, stdout, stderr } = await svdq(["compress", FIXTURE, "-o", out]);
    expect(code).toBe(0);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^from +test\/fixtures.*2 layers of 3 kv heads x 64$/m);
    expect(stdout).toMatch(/^ratio +\d\.\d\d times smaller than f16 \(2,555,904 bytes\)$/m);
    expect(stdout).toMatch(/^bytes by kind +bits +\+basis +codes +scales +norms +basis +means +exact$/m);
    expect(stdout).toMatch(/^keys +1\.2\d /m);
  });

  it("draws a bar on a terminal, on stderr only", async () => {
    const { stdout, stderr } = await svdq(["compress", FIXTURE, "-o", out, "--json"], { terminal: true });
    expect(stderr).toContain("6/6 encode values");
    expect(() => JSON.parse(stdout)).not.toThrow();
  });

  it("makes the same archive twice", async () => {
    await compressed();
    const first = await readArchive(out);
    await compressed();
    expect(await readArchive(out)).toEqual(first);
  });

  it.each([
    [["--key-bits", "2"], { key: 2 }],
    [["--schedule", "4,4,2,0,0,0,0,0"], { key: 1.25 }],
    [["--value-bits", "1"], { value: 1.07 }],
  ])("spends the bits of %j", async (flags, { key, value }: { key?: number; value?: number }) => {
    const { bits } = await compressed(...flags);
    if (key) expect(Math.abs(bits.keys.bits - key)).toBeLessThan(0.05);
    if (value) expect(Math.abs(bits.values.bits - value)).toBeLessThan(0.05);
  });

  it.each([
    [["--anchor-span", "none"], { anchorSpan: null }],
    [["--anchor-span", "32"], { anchorSpan: 32 }],
    [["--anchor-span", "0.1rad"], { anchorSpan: BY_PAIR }],
    [["--sinks", "0", "--recent", "32"], { sinks: 0, recent: 32 }],
    [["--tokens", "500"], { tokenCount: 500 }],
  ])("keeps %j in the archive", async (flags, expected) => {
    await compressed(...flags);
    expect(await readArchive(out)).toMatchObject(expected);
  });

  it.each(["rad", "-1rad", "4rad", "1e9 rad"])("refuses --anchor-span %s", async (span) => {
    const { code, stderr } = await svdq(["compress", FIXTURE, "-o", out, `--anchor-span=${span}`]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/Expected (a number|0 to 3.14 radians a token)\./);
  });

  it("gives each head a basis with --grouping head", async () => {
    await compressed("--grouping", "head");
    const { layers } = await readArchive(out);
    expect(layers[0].keys.map((group) => group.headCount)).toEqual([1, 1, 1]);
  });

  it.each(["--no-metric", "--no-attention-weights"])("makes other codes with %s", async (flag) => {
    await compressed();
    const { layers } = await readArchive(out);
    await compressed(flag);
    expect((await readArchive(out)).layers[0].keys[0].planes).not.toEqual(layers[0].keys[0].planes);
  });

  it("spends fewer bytes on a basis of fewer bits", async () => {
    const [four, eight] = [await compressed("--basis-bits", "4"), await compressed("--basis-bits", "8")];
    expect(four.bytes.keys.basis).toBeLessThan(0.6 * eight.bytes.keys.basis);
  });

  it("stops with exit code 130 and leaves nothing behind", async () => {
    const { code, stdout, stderr } = await svdq(["compress", FIXTURE, "-o", out], { signal: AbortSignal.abort() });
    expect({ code, stdout, stderr }).toEqual({ code: 130, stdout: "", stderr: "svdq: stopped\n" });
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(pathOf())).toEqual([]);
  });
});
