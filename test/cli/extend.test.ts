/** `svdq compress --extend`: an archive of a longer cache on the bases of a shorter one. */
import { existsSync } from "node:fs";
import { expect, it } from "vitest";
import { readArchive } from "../../src/archive/reader.ts";
import { splitByTokens } from "../../src/archive/token-split.ts";
import { testDirectory } from "../support/directory.ts";
import { FIXTURE, svdq, svdqJson } from "./cli.ts";

const pathOf = testDirectory();

it("keeps what the archive holds, and codes the others", async () => {
  const [short, long] = [pathOf("short.svdq"), pathOf("long.svdq")];
  await svdqJson("compress", FIXTURE, "-o", short, "--tokens", "1100", "--recent", "32");
  const result = await svdqJson("compress", FIXTURE, "-o", long, "--extend", short, "--recent", "32");
  expect(result).toMatchObject({ tokens: 1664, sinks: 4, recent: 32, output: long });
  const [a, b] = [await readArchive(short), await readArchive(long)].map((cache) => splitByTokens(cache));
  expect(a.length).toBeGreaterThan(4);
  for (const [i, { tokenTo, bytes }] of a.slice(0, -1).entries()) {
    expect(b[i].tokenTo).toBe(tokenTo);
    expect(Buffer.compare(b[i].bytes, bytes)).toBe(0);
  }
});

it("refuses what does not continue the archive, and options that the archive has decided", async () => {
  const [short, long] = [pathOf("short.svdq"), pathOf("long.svdq")];
  await svdqJson("compress", FIXTURE, "-o", short, "--tokens", "1100");
  const compress = (...flags: string[]) => svdq(["compress", FIXTURE, "-o", long, "--extend", ...flags]);
  for (const [flags, code, message] of [
    [[short, "--tokens", "1000"], 3, /expected at least 1101, one more than the archive has, got 1000/],
    [[short, "--sinks", "8"], 2, /'--extend <archive>' cannot be used with option '--sinks <tokens>'/],
    [[short, "--entropy"], 2, /cannot be used with option '--entropy'/],
    [[FIXTURE], 3, /magic: expected/],
    [[pathOf("nothing.svdq")], 4, /nothing\.svdq/],
  ] as [string[], number, RegExp][]) {
    const outcome = await compress(...flags);
    expect(outcome.stderr).toMatch(message);
    expect(outcome.code).toBe(code);
    expect(existsSync(long)).toBe(false);
  }
  expect((await svdq(["compress", FIXTURE, "-o", short, "--extend", short])).code).toBe(2);
});
