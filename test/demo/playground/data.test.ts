/** Numbers behind the playground's pictures. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { binMatrix, binMeans, binSize, errorByToken } from "../../../demo/playground/src/data/bins.ts";
import { projectedBytes, sizeOf } from "../../../demo/playground/src/data/projection.ts";
import { codedWidths, runsOf } from "../../../demo/playground/src/data/runs.ts";
import { bytesText, digits, partText, times } from "../../../demo/playground/src/data/text.ts";
import type { Sizes } from "../../../demo/playground/src/messages.ts";
import { nearest, recentFor, sinksFor } from "../../../demo/playground/src/settings.ts";
import { allocations } from "../../../src/cli/summary.ts";
import { bitsOf, bytesOf } from "../../../src/codec/bytes.ts";
import { compress } from "../../../src/codec/compress.ts";
import { checkGeometry } from "../../../src/codec/geometry.ts";
import { KNOWN_MODELS } from "../../../src/evaluation/known-models.ts";
import { PLATFORMS } from "../../support/platforms.ts";
import { TinyCache } from "../../support/tiny-cache.ts";

const codedTiny = async (options: { grouping: "layer" | "head" }) =>
  compress(await PLATFORMS[2].create(), new TinyCache({ layers: 2, kvHeads: 2, headDim: 32, tokens: 400 }), options);

describe("bins", () => {
  it("hold all elements, at most as many bins as asked for, and keep the mean", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1 }),
        fc.integer({ min: 1, max: 40 }),
        (values, most) => {
          const size = binSize(values.length, most);
          const means = binMeans(values, size);
          expect(means.length).toBeLessThanOrEqual(most);
          const sum = means.reduce((total, mean, i) => total + mean * Math.min(size, values.length - i * size), 0);
          expect(sum).toBeCloseTo(values.reduce((a, b) => a + b, 0));
        },
      ),
    );
  });

  it("of a matrix are means over rows of sums over columns, ragged rows and all", () => {
    const rows = [[1, 2, 3], [5], [7, 0, 1]];
    expect(Array.from(binMatrix(3, 3, { row: 2, column: 2 }, (row) => rows[row]))).toEqual([4, 1.5, 7, 1]);
  });

  it("errors by token are relative, over all heads; a token of zeros has none", () => {
    // 2 heads, 2 tokens, head dim 2; the second token is zero.
    const exact = Float32Array.of(3, 0, 0, 0, 0, 4, 0, 0);
    const coded = Float32Array.of(3, 5, 1, 0, 0, 4, 0, 0);
    expect(Array.from(errorByToken(exact, coded, 2, 2))).toEqual([1, 0]);
  });
});

describe.each(["layer", "head"] as const)("runs of channels, bases by %s", (grouping) => {
  it("cover each layer once and count what svdq inspect counts", async () => {
    const coded = await codedTiny({ grouping });
    const runs = runsOf(coded);
    const counted = allocations(coded);
    for (const [i, layer] of coded.layerNumbers.entries()) {
      for (const part of ["keys", "values"] as const) {
        const mine = runs.filter((run) => run.layer === layer && run.part === part);
        let next = 0;
        for (const { first, count } of mine) {
          expect(first).toBe(next);
          next += count;
        }
        expect(next).toBe(64);
        for (const [width, count] of Object.entries(counted[i][0][part])) {
          expect(mine.reduce((sum, run) => sum + (run.width === Number(width) ? run.count : 0), 0)).toBe(count);
        }
      }
    }
    expect(codedWidths(coded)[0]).toHaveLength(grouping === "head" ? 2 : 1);
  });

  it("a projection to the measured cache itself gives its bytes", async () => {
    const coded = await codedTiny({ grouping });
    const bytes = bytesOf(coded);
    const sizes: Sizes = {
      bytes,
      bits: { keys: bitsOf(bytes.keys, coded), values: bitsOf(bytes.values, coded) },
      ...{ geometry: coded.geometry, tokens: coded.tokenCount, grouping, f16Bytes: 4 * 2 * 400 * 64 },
      exactTokens: coded.sinks + coded.recent,
    };
    // The tiny cache is f16, as the projection takes exact tokens to be.
    expect(coded.exactType).toBe("f16");
    const projected = projectedBytes(sizes, coded.geometry, coded.tokenCount);
    expect(projected.bytes).toBeCloseTo(sizeOf(sizes), 3);
    expect(projected.f16Bytes).toBe(sizes.f16Bytes);
    expect(projectedBytes(sizes, coded.geometry, 50).bytes).toBe(projectedBytes(sizes, coded.geometry, 50).f16Bytes);
    for (const model of KNOWN_MODELS) {
      checkGeometry(model);
      const [short, long] = [4096, 8192].map((tokens) => projectedBytes(sizes, model, tokens));
      expect(long.f16Bytes / long.bytes).toBeGreaterThan(short.f16Bytes / short.bytes);
    }
  });
});

describe("texts and ranges", () => {
  it("say bytes, parts and small numbers as people do", () => {
    expect([999, 1000, 446_576, 12_900_000_000].map(bytesText)).toEqual(["999 B", "1 kB", "447 kB", "12.9 GB"]);
    expect([null, 1, 0.5, 1 / 32].map(partText)).toEqual(["all", "all", "1/2", "1/32"]);
    expect([0, 0.012345, 0.00001, 1].map(digits)).toEqual(["0", "0.0123", "1e-5", "1"]);
    expect(times(5.8312)).toBe("5.83 ×");
  });

  it("leave at least one token to code, for any text", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5000 }), (tokens) => {
        expect(Math.max(...sinksFor(tokens)) + Math.max(...recentFor(tokens))).toBeLessThan(tokens);
      }),
    );
    expect(nearest([0, 16, 32], 64)).toBe(32);
    expect(nearest([0, 16, 32], 20)).toBe(16);
  });
});
