/** Options: defaults filled, and every one that makes no sense refused by name. */
import { describe, expect, it } from "vitest";
import { type CodecOptions, checkOptions, DEFAULT_OPTIONS } from "../../src/codec/options.ts";
import { failureOf } from "../support/failure.ts";

describe("options", () => {
  it("are the defaults where nothing is given, in a fresh object", () => {
    const options = checkOptions({});
    expect(options).toEqual(DEFAULT_OPTIONS);
    expect(options).not.toBe(DEFAULT_OPTIONS);
    expect(options).toMatchObject({
      keyBits: 1.25,
      valueBits: 2,
      grouping: "layer",
      anchorSpan: 1,
      sinks: 4,
      recent: 64,
    });
  });

  it.each<Partial<CodecOptions>>([
    { keyBits: 0.01 },
    { keyBits: 8, valueBits: 8 },
    { valueBits: 0.5 },
    { sinks: 0, recent: 0 },
    { sinks: 1 << 20 },
    { grouping: "head" },
    { anchorSpan: null },
    { anchorSpan: 256 },
    { anchorSpan: 1 << 24 },
    { anchorSpan: [null, 32, 1] },
    { schedule: [4, 4, 2, 0, 0, 0, 0, 0] },
    { schedule: [0, 0, 0, 0, 0, 0, 0, 1] },
    { schedule: [8, 8, 8, 8, 8, 8, 8, 8] },
    { metric: false, attentionWeights: false },
    { basisBits: 8 },
    { basisBits: 6 },
  ])("take %o", (given) => {
    expect(checkOptions(given)).toEqual({ ...DEFAULT_OPTIONS, ...given });
  });

  const WRONG: [Record<string, unknown>, string][] = [
    [{ keyBits: 0 }, "keyBits: expected a number from 0.01 to 8, got 0"],
    [{ keyBits: 8.01 }, "keyBits: expected a number from 0.01 to 8, got 8.01"],
    [{ keyBits: Number.NaN }, "keyBits: expected a number from 0.01 to 8, got NaN"],
    [{ keyBits: "2" }, 'keyBits: expected a number from 0.01 to 8, got "2"'],
    [{ valueBits: -1 }, "valueBits: expected a number from 0.01 to 8, got -1"],
    [{ valueBits: Infinity }, "valueBits: expected a number from 0.01 to 8, got Infinity"],
    [{ sinks: -1 }, "sinks: expected an integer from 0 to 1048576, got -1"],
    [{ sinks: 1.5 }, "sinks: expected an integer from 0 to 1048576, got 1.5"],
    [{ recent: 1048577 }, "recent: expected an integer from 0 to 1048576, got 1048577"],
    [{ recent: undefined }, "recent: expected an integer from 0 to 1048576, got undefined"],
    [{ grouping: "model" }, 'grouping: expected "layer" or "head", got model'],
    [{ anchorSpan: 0 }, "anchorSpan: expected a power of two from 1 to 16777216 or null, got 0"],
    [{ anchorSpan: 1.5 }, "anchorSpan: expected a power of two from 1 to 16777216 or null, got 1.5"],
    [{ anchorSpan: 2 ** 25 }, "anchorSpan: expected a power of two from 1 to 16777216 or null, got 33554432"],
    [{ anchorSpan: 3 }, "anchorSpan: expected a power of two from 1 to 16777216 or null, got 3"],
    [{ anchorSpan: 96 }, "anchorSpan: expected a power of two from 1 to 16777216 or null, got 96"],
    [{ anchorSpan: [32, 0] }, "anchorSpan[1]: expected a power of two from 1 to 16777216 or null, got 0"],
    [{ schedule: [] }, "schedule: expected 8 widths, got 0"],
    [{ schedule: [8, 4, 2, 1, 1, 0, 0] }, "schedule: expected 8 widths, got 7"],
    [{ schedule: [8, 4, 2, 1, 1, 0, 0, 0, 0] }, "schedule: expected 8 widths, got 9"],
    [{ schedule: [8, 4, 3, 1, 1, 0, 0, 0] }, "schedule: expected widths of 0, 1, 2, 4, 8, got 3"],
    [{ schedule: [16, 4, 2, 1, 1, 0, 0, 0] }, "schedule: expected widths of 0, 1, 2, 4, 8, got 16"],
    [{ schedule: [0, 0, 0, 0, 0, 0, 0, 0] }, "schedule: expected at least one width above 0, got none"],
    [{ basisBits: 2 }, "basisBits: expected an integer from 3 to 12, got 2"],
    [{ entropy: true, schedule: [8, 4, 2, 1, 1, 0, 0, 0] }, "entropy: expected no schedule beside it, got both"],
    [{ basisBits: 13 }, "basisBits: expected an integer from 3 to 12, got 13"],
    [{ basisBits: "8" }, 'basisBits: expected an integer from 3 to 12, got "8"'],
    [
      { keysBits: 2 },
      'options: expected fields among keyBits, valueBits, grouping, anchorSpan, schedule, entropy, sinks, recent, metric, attentionWeights, basisBits, got "keysBits"',
    ],
  ];

  it.each(WRONG)("refuse %o", async (given, message) => {
    const error = await failureOf(() => checkOptions(given as Partial<CodecOptions>));
    expect(error).toBeInstanceOf(/fields among/.test(message) ? TypeError : RangeError);
    expect(error.message).toBe(message);
  });
});
