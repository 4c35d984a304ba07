/** `svdq profile`, and `--profile` of `compress`. */
import { statSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readProfile } from "../../src/engines/profile.ts";
import { testDirectory } from "../support/directory.ts";
import { TinyDump } from "../support/tiny-dump.ts";
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
    expect(stdout).toMatch(/^to .* bytes, queries alone$/m);
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
