/** The command line as a function of its arguments. */
import { Command } from "commander";
import { addAttend } from "./attend.ts";
import { addCompare } from "./compare.ts";
import { addCompress } from "./compress.ts";
import { addCost } from "./cost.ts";
import { addEval } from "./eval.ts";
import { EXIT, exitCodeOf, messageOf } from "./failure.ts";
import { addInspect } from "./inspect.ts";
import type { Io } from "./io.ts";
import { addProfile } from "./profile.ts";
import { addRestore } from "./restore.ts";
import { addTasks } from "./tasks.ts";
import { addTexts } from "./texts.ts";

const EPILOGUE = `
Results go to stdout, progress and errors to stderr; after an error stdout is empty and the output file as it was.

Exit codes:
  0    done
  1    internal error, please report it
  2    wrong usage: a command, an argument or an option
  3    a file that is read is damaged, unsuitable or too short
  4    the system: a file cannot be read or written, the disk is full, memory is short
  130  stopped by Ctrl-C`;

/** Runs the arguments (without node and script); returns the exit code. Never throws. */
export async function run(args: string[], io: Io): Promise<number> {
  try {
    await programFor(io).parseAsync(args, { from: "user" });
    return EXIT.ok;
  } catch (error) {
    if (io.signal.aborted) {
      io.stderr.write("svdq: stopped\n");
      return EXIT.stopped;
    }
    const code = exitCodeOf(error);
    if (code !== EXIT.ok) io.stderr.write(`svdq: ${messageOf(error)}\n`);
    return code;
  }
}

function programFor(io: Io): Command {
  const program = new Command("svdq")
    .description("Compresses an LLM's key-value cache and shows what that costs.")
    .version(io.version)
    .exitOverride()
    // Errors are written once, by `run`.
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      outputError: () => undefined,
    })
    .addHelpText("afterAll", EPILOGUE);
  const commands = [
    addInspect,
    addCompress,
    addRestore,
    addCompare,
    addAttend,
    addProfile,
    addEval,
    addTasks,
    addTexts,
    addCost,
  ];
  for (const add of commands) add(program, io);
  return program;
}
