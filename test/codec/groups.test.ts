/** Head groups: every head once, equal parts, none wider than a basis may be. */
import { describe, expect, it } from "vitest";
import { checkGeometry, rowDim } from "../../src/codec/geometry.ts";
import { headGroups, MAX_GROUP_DIM } from "../../src/codec/groups.ts";
import { failureOf } from "../support/failure.ts";

const DIMS = Array.from({ length: 57 }, (_, i) => 32 + 4 * i);
const HEADS = Array.from({ length: 32 }, (_, i) => i + 1);

describe("head groups", () => {
  it.each(HEADS)("of %i heads hold every head once, in order, in equal parts", (kvHeads) => {
    for (const headDim of DIMS) {
      const geometry = checkGeometry({ layerCount: 1, kvHeads, headDim });
      for (const grouping of ["head", "layer"] as const) {
        const groups = headGroups(geometry, grouping);
        const heads = groups.flatMap(({ firstHead, headCount }) =>
          Array.from({ length: headCount }, (_, i) => firstHead + i),
        );
        expect(heads).toEqual(HEADS.slice(0, kvHeads).map((n) => n - 1));
        expect(new Set(groups.map(({ headCount }) => headCount)).size).toBe(1);
        expect(groups[0].headCount * headDim).toBeLessThanOrEqual(MAX_GROUP_DIM);
      }
      expect(headGroups(geometry, "head").length).toBe(kvHeads);
    }
  });

  it("are as wide as they may be, by layer", () => {
    for (const kvHeads of HEADS) {
      for (const headDim of DIMS) {
        const size = headGroups({ layerCount: 1, kvHeads, headDim }, "layer")[0].headCount;
        const wider = HEADS.filter((n) => n > size && kvHeads % n === 0 && n * headDim <= MAX_GROUP_DIM);
        expect(wider).toEqual([]);
      }
    }
  });

  it("of models as they are", () => {
    const sizes = (kvHeads: number, headDim: number) =>
      headGroups({ layerCount: 1, kvHeads, headDim }, "layer").map(({ headCount }) => headCount);
    expect(sizes(3, 64)).toEqual([3]); // SmolLM2-135M
    expect(sizes(8, 64)).toEqual([8]); // Llama-3.2-1B
    expect(sizes(8, 128)).toEqual([8]); // Llama-3.1-8B
    expect(sizes(4, 256)).toEqual([4]); // Gemma 2 2B
    expect(sizes(32, 96)).toEqual([8, 8, 8, 8]); // Phi-3 mini: ten would fit, eight divide 32
    expect(sizes(32, 128)).toEqual([8, 8, 8, 8]); // Llama 2 7B
    expect(sizes(7, 256)).toEqual(new Array(7).fill(1)); // a prime that does not fit
  });
});

describe("geometry", () => {
  it("counts the elements of a row", () => {
    expect(rowDim({ layerCount: 30, kvHeads: 3, headDim: 64 })).toBe(192);
  });

  it.each([
    [{ layerCount: 0 }, "geometry.layerCount: expected an integer from 1 to 1024, got 0"],
    [{ layerCount: 1025 }, "geometry.layerCount: expected an integer from 1 to 1024, got 1025"],
    [{ kvHeads: 0 }, "geometry.kvHeads: expected an integer from 1 to 32, got 0"],
    [{ kvHeads: 33 }, "geometry.kvHeads: expected an integer from 1 to 32, got 33"],
    [{ kvHeads: 1.5 }, "geometry.kvHeads: expected an integer from 1 to 32, got 1.5"],
    [{ headDim: 28 }, "geometry.headDim: expected an integer from 32 to 256, got 28"],
    [{ headDim: 260 }, "geometry.headDim: expected an integer from 32 to 256, got 260"],
    [{ headDim: 63 }, "geometry.headDim: expected a multiple of 4, got 63"],
    [{ headDim: 66 }, "geometry.headDim: expected a multiple of 4, got 66"],
  ])("refuses %o", async (wrong, message) => {
    const error = await failureOf(() => checkGeometry({ layerCount: 1, kvHeads: 1, headDim: 64, ...wrong }));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe(message);
  });
});
