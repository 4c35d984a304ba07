/** What went wrong, as an exit code and one line. */
import { CommanderError } from "commander";
import { MismatchError, SvdqError, UnsupportedError } from "../errors.ts";

export const EXIT = { ok: 0, internal: 1, usage: 2, input: 3, system: 4, stopped: 130 } as const;

/** A wrong option or argument. */
export class UsageError extends Error {}

/** A file that is readable but cannot be worked with. */
export class InputError extends Error {}

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return isAnswer(error) ? EXIT.ok : EXIT.usage;
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof InputError) return EXIT.input;
  if (isSystem(error)) return EXIT.system;
  if (error instanceof SvdqError) {
    if (error.code === "CAPACITY") return EXIT.system;
    if (error.code === "FORMAT" || error.code === "MISMATCH" || error.code === "UNSUPPORTED") return EXIT.input;
  }
  return EXIT.internal;
}

/** `--help` and `--version` end in a CommanderError too; what they say is on stdout already. */
const isAnswer = (error: CommanderError): boolean => error.exitCode === 0;

/** An error of the system, or one of ours caused by it. V8 says with a RangeError that memory is short. */
function isSystem(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error.message === "Array buffer allocation failed") return true;
  const { code } = (error.cause ?? error) as { code?: unknown };
  return typeof code === "string" && /^E[A-Z0-9]+$/.test(code);
}

/** One line, without a stack. */
export function messageOf(error: unknown): string {
  if (error instanceof CommanderError && error.code === "commander.help") return "expected a command";
  const text = (error instanceof Error ? error.message : String(error))
    .replace(/^error: /, "")
    .replace(/\s*\n\s*/g, " ");
  return exitCodeOf(error) === EXIT.internal ? `internal error: ${text}` : text;
}

/** Runs `work` on a file; what the library says of its content becomes an InputError with the file's name. */
export async function aboutFile<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isAboutInput(error) || error.message.startsWith(path)) throw error;
    throw new InputError(`${path}: ${error.message}`, { cause: error });
  }
}

/** Our RangeErrors say what was expected; others are the engine's, and faults of ours. */
function isAboutInput(error: unknown): error is Error {
  if (error instanceof UnsupportedError || error instanceof MismatchError) return true;
  return error instanceof RangeError && error.message.includes("expected") && !isSystem(error);
}

/** Runs a check of options of the library; `keyBits: expected …` becomes `--key-bits: expected …`. */
export function asUsage<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const message = error.message.replace(
      /^\w+/,
      (name) => `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`,
    );
    throw new UsageError(message, { cause: error });
  }
}
