import { describe, expect, it } from "vitest";
import * as errors from "../src/errors.ts";

/** Callers branch on these strings: a change here breaks them. */
const CODES = [
  [new errors.CapacityError("m"), "CapacityError", "CAPACITY"],
  [new errors.ConvergenceError("m"), "ConvergenceError", "CONVERGENCE"],
  [new errors.FormatError("m"), "FormatError", "FORMAT"],
  [new errors.MismatchError("m"), "MismatchError", "MISMATCH"],
  [new errors.UnsupportedError("m"), "UnsupportedError", "UNSUPPORTED"],
  [new errors.DisposedError("m"), "DisposedError", "DISPOSED"],
] as const;

describe("errors", () => {
  it.each(CODES)("%s has a stable name and code", (error, name, code) => {
    expect([error.name, error.code]).toEqual([name, code]);
    expect(error).toBeInstanceOf(errors.SvdqError);
    expect(error.message).toContain("m");
  });

  it("are a closed set: the list above has every class", () => {
    const classes = Object.values(errors).filter((x) => typeof x === "function" && x.prototype instanceof Error);
    expect(classes.map((x) => x.name).sort()).toEqual(["SvdqError", ...CODES.map(([, name]) => name)].sort());
  });

  it("a FormatError says the byte", () => {
    const error = new errors.FormatError("magic: expected SVDQ, got PK", 12);
    expect(error.message).toBe("magic: expected SVDQ, got PK (at byte 12)");
    expect(error.offsetBytes).toBe(12);
  });
});

describe("checks of a caller's numbers", () => {
  it.each([[0], [7], [10]])("takes the integer %d and gives it back", (value) => {
    expect(errors.expectInteger("count", value, 0, 10)).toBe(value);
  });

  it.each<[unknown, string]>([
    [-1, "-1"],
    [11, "11"],
    [1.5, "1.5"],
    [Number.NaN, "NaN"],
    ["7", '"7"'],
    [undefined, "undefined"],
  ])("refuses %s as an integer, naming what came", (value, got) => {
    expect(() => errors.expectInteger("count", value, 0, 10)).toThrow(
      new RangeError(`count: expected an integer from 0 to 10, got ${got}`),
    );
  });

  it.each<[unknown, string]>([
    [-0.1, "-0.1"],
    [Number.NaN, "NaN"],
    [Infinity, "Infinity"],
    [null, "null"],
  ])("refuses %s as a number", (value, got) => {
    expect(() => errors.expectNumber("bits", value, 0, 8)).toThrow(
      new RangeError(`bits: expected a number from 0 to 8, got ${got}`),
    );
    expect(errors.expectNumber("bits", 1.25, 0, 8)).toBe(1.25);
  });

  it.each<[unknown, string]>([
    [{ sinks: 4, sink: 3 }, 'options: expected fields among sinks, recent, got "sink"'],
    [null, "options: expected an object, got null"],
    ["sinks", 'options: expected an object, got "sinks"'],
  ])("refuses options %o", (given, message) => {
    expect(() => errors.expectOptions("options", given, ["sinks", "recent"])).toThrow(new TypeError(message));
    expect(() => errors.expectOptions("options", { recent: 1 }, ["sinks", "recent"])).not.toThrow();
  });
});
