/**
 * The closed set of errors. A caller's mistake is a TypeError or a RangeError that names the argument, what was
 * expected and what came; everything else is one of these, each with a stable `code`.
 */
export type ErrorCode = "CAPACITY" | "CONVERGENCE" | "FORMAT" | "MISMATCH" | "UNSUPPORTED" | "DISPOSED";

export abstract class SvdqError extends Error {
  abstract readonly code: ErrorCode;
  override get name(): string {
    return this.constructor.name;
  }
}

/** A memory limit was reached; nothing changed. */
export class CapacityError extends SvdqError {
  readonly code = "CAPACITY";
}

/** An iteration did not reach its tolerance, or met numbers that are not finite: there is no result. */
export class ConvergenceError extends SvdqError {
  readonly code = "CONVERGENCE";
}

/** Bytes from outside are not what they claim: magic, version, checksum, truncation. Says the byte offset. */
export class FormatError extends SvdqError {
  readonly code = "FORMAT";
  readonly offsetBytes: number;
  constructor(message: string, offsetBytes = 0) {
    super(`${message} (at byte ${offsetBytes})`);
    this.offsetBytes = offsetBytes;
  }
}

/** Two things that must belong together do not: model fingerprint, geometry, profile. */
export class MismatchError extends SvdqError {
  readonly code = "MISMATCH";
}

/** No SIMD, or a kind of tensor that this package does not handle. */
export class UnsupportedError extends SvdqError {
  readonly code = "UNSUPPORTED";
}

/** The object was disposed before this call. */
export class DisposedError extends SvdqError {
  readonly code = "DISPOSED";
}

/** Throws a RangeError unless `value` is an integer in `[low, high]`. */
export function expectInteger(name: string, value: unknown, low: number, high: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${name}: expected an integer from ${low} to ${high}, got ${argument(value)}`);
  }
  return value;
}

/** Throws a RangeError unless `value` is a finite number in `[low, high]`. */
export function expectNumber(name: string, value: unknown, low: number, high: number): number {
  if (typeof value !== "number" || !(value >= low && value <= high)) {
    throw new RangeError(`${name}: expected a number from ${low} to ${high}, got ${argument(value)}`);
  }
  return value;
}

/** Throws a TypeError unless `given` is an object whose fields are all among `known`. */
export function expectOptions(name: string, given: unknown, known: readonly string[]): void {
  if (typeof given !== "object" || given === null)
    throw new TypeError(`${name}: expected an object, got ${argument(given)}`);
  const unknown = Object.keys(given).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  throw new TypeError(`${name}: expected fields among ${known.join(", ")}, got ${argument(unknown)}`);
}

/** An argument in a message; one left out is told apart from nothing in a file. */
const argument = (value: unknown): string => (value === undefined ? "undefined" : brief(value));

/**
 * A value from outside as an error message shows it: short, and safe where `String` is not (an object with a field
 * `toString`, arrays nested a million deep).
 */
export function brief(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (Array.isArray(value)) {
    const flat = value.length <= 8 && value.every((item) => typeof item === "number");
    return flat ? `[${value.join(", ")}]` : `an array of ${value.length}`;
  }
  if (typeof value === "object" && value !== null) return "an object";
  return value === undefined ? "nothing" : String(value);
}
