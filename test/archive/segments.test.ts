/** Archive version 2: damage, and headers whose segments cannot be. */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { decodeArchive } from "../../src/archive/reader.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import type { CodedCache } from "../../src/codec/coded.ts";
import { ArchiveParts, refusalOf, refuseEveryFlip } from "../support/archive-parts.ts";

let archive: Uint8Array;
let cache: CodedCache;
beforeAll(() => {
  archive = new Uint8Array(readFileSync("test/golden/v2-segments.svdq"));
  cache = decodeArchive(archive);
});

describe("an archive of two segments", () => {
  it("holds what it was made of", () => {
    expect(cache.layers.map(({ earlier }) => earlier?.map(({ tokens }) => tokens))).toEqual([[38], undefined]);
    expect(new ArchiveParts(archive).header.segments).toEqual([[38, 48], [86]]);
  });

  it("does not survive a flip of any byte", () => {
    refuseEveryFlip(archive);
  });

  it.each([
    [undefined, "segments: expected 2 layers, got nothing"],
    [[[38, 48]], "segments: expected 2 layers"],
    [[[38, 48], []], "layer 1: segments: expected at least one number of tokens"],
    [[[38, 47], [86]], "layer 0: segments: expected 86 tokens in all, got 85"],
    [[[38, 49], [86]], "layer 0: segments[1]: expected an integer from 0 to 48, got 49"],
    [[[-1, 87], [86]], "layer 0: segments[0]: expected an integer from 0 to 86, got -1"],
    [[["38", 48], [86]], "layer 0: segments[0]: expected an integer from 0 to 86"],
    [[[86], [86]], "segments: expected a layer of several in version 2"],
    [[[37, 49], [86]], "section keys of layer 0: "],
  ])("is refused with segments %j", (segments, message) => {
    const parts = new ArchiveParts(archive);
    expect(refusalOf(parts.withHeader({ ...parts.header, segments })).message).toContain(message);
  });

  it("is not written where its segments hold too many tokens", () => {
    const [first, second] = cache.layers;
    const earlier = [{ ...first.earlier![0], tokens: 87 }];
    expect(() => encodeArchive({ ...cache, layers: [{ ...first, earlier }, second] })).toThrow(
      "layer 0: segments[0]: expected an integer from 0 to 86, got 87",
    );
  });
});
