/** `svdq profile`, and `--profile` of `compress`. */
import { existsSync, statSync, writeFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import { compressOnBases } from "../../src/codec/given-bases.ts";
import {
  parseLlamaState,
  readGgufModel,
  readProfile,
  sourceOfLlamaState,
  withProfile,
} from "../../src/engines/llama-cpp.ts";
import { testDirectory } from "../support/directory.ts";
import { worst } from "../support/linear-algebra.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyDump } from "../support/tiny-dump.ts";
import { ggufBytes, llamaKeys } from "../support/tiny-gguf.ts";
import { tinyLlama, tinyState } from "../support/tiny-state.ts";
import { FIXTURE, svdq, svdqJson } from "./cli.ts";

const SMOLLM2 = "test/fixtures/smollm2.profile";
const pathOf = testDirectory();

describe("profile", () => {
  it("makes one of a dump, with bases for live caches where asked", async () => {
    const out = pathOf("made.profile");
    const result = await svdqJson("profile", FIXTURE, "-o", out, "--bases");
    expect(result).toMatchObject({ layers: 2, kvHeads: 3, headDim: 64, bases: true, totalBytes: statSync(out).size });
    const { moments, bases } = await readProfile(out);
    expect([...moments.keys()]).toEqual([5, 20]);
    expect(bases).toMatchObject({ tokenCount: 0, anchorSpan: 256 });
    const { stdout } = await svdq(["profile", FIXTURE, "-o", out]);
    expect(stdout).toMatch(/^to .* bytes, queries$/m);
  });

  it("joins queries and the Fisher information of other profiles", async () => {
    const out = pathOf("joined.profile");
    const result = await svdqJson("profile", FIXTURE, SMOLLM2, SMOLLM2, "-o", out);
    expect(result).toMatchObject({ layers: 30, fisher: 2, bases: false });
    const [joined, one] = [await readProfile(out), await readProfile(SMOLLM2)];
    expect([...joined.moments.keys()]).toEqual([5, 20]);
    expect([...joined.fisher.keys()]).toEqual([...one.fisher.keys()]);
    for (const [number, { keys, values }] of one.fisher) {
      // The mean of two that are alike.
      expect(worst(joined.fisher.get(number)!.keys, keys)).toBe(0);
      expect(worst(joined.fisher.get(number)!.values, values)).toBe(0);
    }
    const { stdout } = await svdq(["profile", SMOLLM2, "-o", out]);
    expect(stdout).toMatch(/^to .* bytes, Fisher information$/m);
    expect((await readProfile(out)).moments.size).toBe(0);
  });

  it("refuses a profile without Fisher information among the files", async () => {
    await svdqJson("profile", FIXTURE, "-o", pathOf("queries.profile"));
    const outcome = await svdq(["profile", pathOf("queries.profile"), "-o", pathOf("p")]);
    expect(outcome).toMatchObject({ code: 3, stdout: "" });
    expect(outcome.stderr).toContain("queries.profile: expected Fisher information alone, got a profile without");
    await svdqJson("profile", FIXTURE, SMOLLM2, "-o", pathOf("both.profile"));
    const both = await svdq(["profile", pathOf("both.profile"), "-o", pathOf("p")]);
    expect(both.stderr).toContain("both.profile: expected Fisher information alone, got queries beside it");
    expect(existsSync(pathOf("p"))).toBe(false);
  });

  it("refuses dumps without queries, and bases of none", async () => {
    const dump = new TinyDump();
    for (const name of Object.keys(dump.tensors)) if (name.endsWith("query")) delete dump.tensors[name];
    writeFileSync(pathOf("bare"), dump.bytes());
    const bare = await svdq(["profile", pathOf("bare"), "-o", pathOf("p")]);
    expect(bare).toMatchObject({ code: 3, stdout: "" });
    expect(bare.stderr).toContain("expected layers.N.query, got a dump without queries");
  });
});

describe("compress --bases profile", () => {
  const profile = () => pathOf("bases.profile");
  const compress = (...flags: string[]) =>
    svdqJson("compress", FIXTURE, "-o", pathOf("a.svdq"), "--profile", profile(), ...flags);
  beforeEach(async () => {
    const flags = ["--bases", "--anchor-span", "1", "--key-bits", "4", "--value-bits", "4"];
    await svdqJson("profile", FIXTURE, "-o", profile(), ...flags);
  });

  it.each([["--no-metric"], ["--entropy"]])(
    "%s makes a file without bases, which opens with the profile only",
    async (...flags) => {
      const own = await compress(...flags);
      const on = await compress("--bases", "profile", ...flags);
      expect(on.totalBytes).toBe(statSync(pathOf("a.svdq")).size);
      expect(on.totalBytes).toBeLessThan(0.95 * own.totalBytes);
      const kinds = on.bytes.keys;
      expect(kinds.basis).toBeLessThan(0.1 * own.bytes.keys.basis);

      const restore = ["restore", pathOf("a.svdq"), "-o", pathOf("r.safetensors")];
      const none = await svdq(restore);
      expect(none).toMatchObject({ code: 3, stdout: "" });
      expect(none.stderr).toMatch(
        /a\.svdq: expected the profile [0-9a-f]{16}, whose bases it is coded on, got none\n$/,
      );
      expect(existsSync(pathOf("r.safetensors"))).toBe(false);
      const other = await svdq([...restore, "--profile", SMOLLM2]);
      expect(other).toMatchObject({ code: 3, stdout: "" });
      expect(other.stderr).toContain("smollm2.profile: expected a profile with bases (svdq profile --bases), got none");
      expect((await svdq([...restore, "--profile", profile()])).code).toBe(0);
      const inspected = await svdqJson("inspect", pathOf("a.svdq"), "--profile", profile());
      expect(inspected).toMatchObject({ kind: "archive", bytes: on.bytes });
      const attended = await svdqJson("attend", pathOf("a.svdq"), "--queries", FIXTURE, "--profile", profile());
      expect(attended.outputError).toBeLessThan(0.05);
    },
  );

  it("refuses goals, a profile without bases, and none", async () => {
    const args = ["compress", FIXTURE, "-o", pathOf("b.svdq"), "--bases", "profile"];
    expect((await svdq(args)).stderr).toMatch(/--bases profile: expected --profile beside it, got none\n$/);
    const bare = await svdq([...args, "--profile", SMOLLM2]);
    expect(bare).toMatchObject({ code: 3, stdout: "" });
    expect(bare.stderr).toContain(
      "smollm2.profile: expected a profile with bases (svdq profile --bases), got none in it",
    );
    for (const flags of [
      ["--ratio", "8"],
      ["--target-kl", "0.01"],
      ["--schedule", "4,4,2,0,0,0,0,0"],
    ]) {
      expect((await svdq([...args, "--profile", profile(), ...flags])).code).toBe(2);
    }
    expect(existsSync(pathOf("b.svdq"))).toBe(false);
  });
});

describe("profiles of llama.cpp's states", () => {
  const cache = tinyLlama(200);
  const names = ["model.gguf", "state.bin", "queries", "p"];
  const paths = () => names.map((name) => pathOf(name));
  beforeEach(() => {
    const [model, state, queries] = paths();
    writeFileSync(model, ggufBytes(llamaKeys(), { "output.weight": [1] }));
    writeFileSync(state, tinyState(cache));
    writeFileSync(queries, new TinyDump({ tokens: 100 }).bytes());
  });

  it("have bases of the states, and serve them", async () => {
    const [model, state, queries, out] = paths();
    const result = await svdqJson("profile", queries, state, "--model", model, "--bases", "-o", out);
    expect(result).toMatchObject({ layers: 2, bases: true });
    const runtime = await PLATFORMS[2].create({});
    const profile = await readProfile(out);
    const gguf = await readGgufModel(model);
    const source = withProfile(sourceOfLlamaState(parseLlamaState(tinyState(cache)), gguf), profile);
    const coded = await compressOnBases(runtime, source, profile.bases!, { keyBits: 2 });
    expect(coded.anchorSpan).toBe(256);
  });

  it("need the model, and queries of one file", async () => {
    const [model, state, queries, out] = paths();
    const without = await svdq(["profile", queries, state, "--bases", "-o", out]);
    expect(without).toMatchObject({ code: 2, stdout: "" });
    expect(without.stderr).toMatch(/--model: expected the GGUF file that .*state\.bin is a state of, got none\n$/);
    const alone = await svdq(["profile", state, "--model", model, "--bases", "-o", out]);
    expect(alone).toMatchObject({ code: 3, stdout: "" });
    expect(alone.stderr).toContain("expected queries or Fisher information in one of them, got states alone");
  });
});

describe("--profile", () => {
  it("gives a dump without queries its metric", async () => {
    const result = await svdqJson("compress", FIXTURE, "-o", pathOf("a"), "--profile", SMOLLM2);
    expect(result.ratio).toBeGreaterThan(5);
  });

  it("refuses a profile of another model, and a file that is none", async () => {
    writeFileSync(pathOf("dump"), new TinyDump({ tokens: 100 }).bytes());
    const other = await svdq(["compress", pathOf("dump"), "-o", pathOf("a"), "--profile", SMOLLM2]);
    expect(other).toMatchObject({ code: 3, stdout: "" });
    expect(other.stderr).toContain("profile: expected 2 kv heads of 32 as the cache has, got 3 kv heads of 64");
    const none = await svdq(["compress", pathOf("dump"), "-o", pathOf("a"), "--profile", FIXTURE]);
    expect(none).toMatchObject({ code: 3, stdout: "" });
    expect(none.stderr).toContain("svdq_profile");
    await svdqJson("compress", FIXTURE, "-o", pathOf("c.svdq"));
    const archive = await svdq(["compress", FIXTURE, "-o", pathOf("a"), "--profile", pathOf("c.svdq")]);
    expect(archive).toMatchObject({ code: 3, stdout: "" });
    expect(archive.stderr).toMatch(/c\.svdq: expected a profile, as svdq profile writes it, got an svdq archive\n$/);
  });
});
