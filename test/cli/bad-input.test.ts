/** Bad input of every kind: a message that names the thing, what was expected and what came, and an exit code. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readHead } from "../../src/archive/header.ts";
import { testDirectory } from "../support/directory.ts";
import { safetensorsBytes, TinyDump } from "../support/tiny-dump.ts";
import { FIXTURE, type Outcome, svdq } from "./cli.ts";

const pathOf = testDirectory();
let [file, out] = ["", ""];

beforeEach(() => {
  [file, out] = [pathOf("cache.safetensors"), pathOf("out")];
  writeFileSync(out, "old");
});

/** One line on stderr, nothing on stdout, and the old output as it was, alone. */
function expectFailure({ code, stdout, stderr }: Outcome, expectedCode: number, message: RegExp): void {
  expect(stderr).toMatch(/^svdq: [^\n]+\n$/);
  expect(stderr).toMatch(message);
  expect({ code, stdout }).toEqual({ code: expectedCode, stdout: "" });
  expect(readFileSync(out, "utf8")).toBe("old");
  expect(readdirSync(pathOf()).filter((name) => name.endsWith(".tmp"))).toEqual([]);
}

describe("dumps", () => {
  const tiny = (edit: (dump: TinyDump) => void, options = {}): Uint8Array => {
    const dump = new TinyDump({ tokens: 100, ...options });
    edit(dump);
    return dump.bytes();
  };
  const withKey = (bits: number) =>
    tiny((dump) => {
      const halves = new Uint16Array(dump.data("layers.1.key").buffer);
      halves[77] = bits;
      dump.tensors["layers.1.key"].bytes = new Uint8Array(halves.buffer);
    });
  const none = () => undefined;

  const CASES: [string, () => Uint8Array, RegExp][] = [
    [
      "a cut file",
      () => readFileSync(FIXTURE).subarray(0, 1_000_000),
      /expected a file of at least \d+ bytes, got 1000000/,
    ],
    ["a file of five bytes", () => new Uint8Array(5), /length: expected at least 8 bytes, got 5/],
    [
      "a header longer than the file",
      () => safetensorsBytes({}, undefined, 1000n),
      /header length: expected .*, got 1000/,
    ],
    ["no safetensors at all", () => new TextEncoder().encode("hello, world, this is text"), /header length: expected/],
    [
      "a wrong dtype",
      () => tiny((dump) => void (dump.tensors["layers.1.value"] = { dtype: "I16", shape: [2, 100, 32] })),
      /layers\.1\.value: dtype: expected F16, BF16 or F32, got "I16"/,
    ],
    [
      "a missing tensor",
      () => tiny((dump) => void delete dump.tensors["layers.1.value"]),
      /layers\.1\.value: expected a tensor of this name, got nothing/,
    ],
    ["no tensors", () => safetensorsBytes({}), /expected layers\.N\.key and layers\.N\.value/],
    [
      "layers of unequal shape",
      () => tiny((dump) => void (dump.tensors["layers.1.key"].shape = [2, 99, 32])),
      /layers\.1\.key: shape: expected \[2, 100, 32\].*, got \[2, 99, 32\]/,
    ],
    ["NaN in keys", () => withKey(0x7e00), /layer 1 key: expected finite elements, got 1 of NaN or infinity/],
    ["infinity in keys", () => withKey(0x7c00), /layer 1 key: expected finite elements, got 1 of NaN or infinity/],
    ["zero tokens", () => tiny(none, { tokens: 0 }), /shape: expected at least 1 token, got \[2, 0, 32\]/],
    ["one token", () => tiny((d) => dropQueries(d), { tokens: 1 }), /tokens: expected at least 69 .*, got 1/],
    [
      "tokens fewer than sinks + recent",
      () => tiny(none, { tokens: 68 }),
      /expected at least 69 \(4 sinks \+ 64 recent/,
    ],
    ["an odd head dim", () => tiny(none, { headDim: 33 }), /geometry\.headDim: expected a multiple of 4, got 33/],
    [
      "a head dim of 20",
      () => tiny(none, { headDim: 20 }),
      /geometry\.headDim: expected an integer from 32 to 256, got 20/,
    ],
    [
      "keys before RoPE",
      () => tiny((dump) => void (dump.metadata.rope_applied = "false")),
      /rope_applied: expected keys after RoPE, got "false"/,
    ],
    [
      "no rotary theta",
      () => tiny((dump) => void delete dump.metadata.rope_theta),
      /rope_theta: expected a rotary theta/,
    ],
  ];

  it.each(CASES)("%s", async (_, make, message) => {
    writeFileSync(file, make());
    for (const args of [
      ["compress", file, "-o", out],
      ["compress", file, "-o", out, "--json"],
      ["inspect", file],
    ]) {
      const outcome = await svdq(args);
      expectFailure(outcome, 3, message);
      expect(outcome.stderr).toContain(file);
    }
  });

  it("an archive instead", async () => {
    await svdq(["compress", FIXTURE, "-o", file]);
    expectFailure(await svdq(["compress", file, "-o", out]), 3, /expected a safetensors dump, got an svdq archive/);
    expectFailure(await svdq(["compare", file]), 3, /expected a safetensors dump, got an svdq archive/);
  });
});

function dropQueries(dump: TinyDump): void {
  for (const name of Object.keys(dump.tensors)) if (name.endsWith("query")) delete dump.tensors[name];
}

describe("options", () => {
  const CASES: [string[], RegExp][] = [
    [["--schedule", "4,4,2"], /--schedule: expected 8 widths, got 3/],
    [["--schedule", "4,4,3,0,0,0,0,0"], /--schedule: expected widths of 0, 1, 2, 4, 8, got 3/],
    [["--schedule", "4,4,,0,0,0,0,0"], /--schedule .*Expected a number/],
    [["--schedule", "0,0,0,0,0,0,0,0"], /--schedule: expected at least one width above 0/],
    [["--schedule", "4,4,2,0,0,0,0,0", "--key-bits", "2"], /--schedule .*cannot be used with .*--key-bits/],
    [["--key-bits", "9"], /--key-bits: expected a number from 0\.01 to 8, got 9/],
    [["--key-bits", "two"], /--key-bits .*'two' is invalid\. Expected a number/],
    [["--value-bits", "0"], /--value-bits: expected a number from 0\.01 to 8, got 0/],
    [["--basis-bits", "1"], /--basis-bits: expected .*, got 1/],
    [["--anchor-span", "3"], /--anchor-span: expected a power of two.*, got 3/],
    [["--sinks", "-1"], /--sinks: expected an integer from 0 .*, got -1/],
    [["--recent", "1.5"], /--recent: expected an integer from 0 .*, got 1\.5/],
    [["--grouping", "token"], /--grouping .*'token' is invalid\. Allowed choices are layer, head/],
    [["--tokens", "0"], /--tokens .*Expected an integer of at least 1/],
    [["--tokens", "1729"], /--tokens: expected at most 1728, as .* holds, got 1729/],
    [["--frobnicate"], /unknown option '--frobnicate'/],
  ];

  it.each(CASES)("%j", async (flags, message) => {
    expectFailure(await svdq(["compress", FIXTURE, "-o", out, ...flags]), 2, message);
  });

  it("too few tokens for sinks and recent are a matter of the file", async () => {
    const args = ["compress", FIXTURE, "-o", out, "--tokens", "68"];
    expectFailure(await svdq(args), 3, /tokens: expected at least 69 .*, got 68/);
  });

  it.each([
    [["compress", FIXTURE], /required option '-o, --output <archive>' not specified/],
    [["inspect"], /missing required argument 'file'/],
    [["restore", "x", "-o", "y", "--type", "bf16"], /--type .*'bf16' is invalid/],
    [["inspct", "x"], /unknown command 'inspct' \(Did you mean inspect\?\)/],
  ])("%j", async (args, message) => {
    expectFailure(await svdq(args), 2, message);
  });
});

describe("archives", () => {
  let good = new Uint8Array(0);

  beforeAll(async () => {
    const directory = mkdtempSync(join(tmpdir(), "svdq-test-"));
    const path = join(directory, "good.svdq");
    await svdq(["compress", FIXTURE, "-o", path, "--tokens", "100"]);
    good = new Uint8Array(readFileSync(path));
    rmSync(directory, { recursive: true });
  });

  const flipped = (offset: number): Uint8Array => good.map((byte, i) => (i === offset ? byte ^ 0x10 : byte));

  async function expectRefused(bytes: Uint8Array, message: RegExp): Promise<void> {
    const archive = pathOf("cache.svdq");
    writeFileSync(archive, bytes);
    for (const args of [
      ["restore", archive, "-o", out],
      ["inspect", archive],
    ]) {
      const outcome = await svdq(args);
      expectFailure(outcome, 3, message);
      expect(outcome.stderr).toMatch(/cache\.svdq: .*\(at byte \d+\)\n$/);
    }
  }

  it("a flipped byte in each section", async () => {
    const { sections } = readHead(good, "good");
    expect(sections.map(({ kind }) => kind)).toContain("exact-values");
    for (const { kind, offset, bytes } of sections) {
      await expectRefused(flipped(offset + (bytes >> 1)), new RegExp(`section ${kind}.*checksum: expected`));
    }
  });

  it.each([
    ["magic", 1, /magic: expected 53 56 44 51/],
    ["preamble", 18, /checksum of the preamble: expected/],
    ["header", 60, /checksum of the header: expected/],
  ])("a flipped byte in the %s", async (_, offset, message) => {
    await expectRefused(flipped(offset), message);
  });

  it("a newer version", async () => {
    const newer = good.slice();
    newer[8] = 5;
    await expectRefused(newer, /version: expected 1 to 4, .*, got 5; this file is of a newer svdq/);
  });

  it.each([0, 20, 100, 0.5])("a cut archive: %d", async (part) => {
    const length = part < 1 ? Math.floor(part * good.length) : part;
    await expectRefused(good.slice(0, length), /length: expected .*, got \d+/);
  });

  it("a dump instead", async () => {
    expectFailure(await svdq(["restore", FIXTURE, "-o", out]), 3, /magic: expected 53 56 44 51/);
  });
});

describe("paths", () => {
  it("an input that is not there", async () => {
    for (const args of [
      ["inspect", file],
      ["compress", file, "-o", out],
      ["restore", file, "-o", out],
      ["compare", file],
    ]) {
      expectFailure(await svdq(args), 4, /expected a file to read, got ".*cache\.safetensors" \(ENOENT/);
    }
  });

  it("an input that is a directory", async () => {
    expectFailure(await svdq(["inspect", pathOf()]), 4, /expected a file to read, got ".*" \(EISDIR/);
  });

  it("an output whose directory is not there", async () => {
    const nowhere = pathOf("no/out");
    expectFailure(
      await svdq(["compress", FIXTURE, "-o", nowhere]),
      4,
      /expected a file to write, got ".*\/no\/out" \(ENOENT/,
    );
  });

  it("an output that is no file, or the input", async () => {
    const directory = pathOf("directory");
    mkdirSync(directory);
    const to = (path: string) => svdq(["compress", FIXTURE, "-o", path]);
    expectFailure(
      await to(directory),
      2,
      /--output: expected a file to write, got .*directory, which is something else/,
    );
    expectFailure(await to("/dev/null"), 2, /--output: expected a file to write, got \/dev\/null/);
    expectFailure(await to(`./${FIXTURE}`), 2, /--output: expected another file than the one that is read/);
  });
});
