/** Files named on the command line. */
import { open, readFile, realpath, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { fileError } from "../archive/atomic-file.ts";
import { MAGIC } from "../archive/format.ts";
import { readArchive } from "../archive/reader.ts";
import type { CodedCache } from "../codec/coded.ts";
import { type Dump, openDump } from "../engines/dump.ts";
import { type ModelProfile, readProfile } from "../engines/profile.ts";
import { aboutFile, InputError, UsageError } from "./failure.ts";

/** Opens a dump for as long as `work` takes. `tokens`: how many to compress, of those that the file holds. */
export async function withDump<T>(
  path: string,
  tokens: number | undefined,
  work: (dump: Dump) => Promise<T>,
): Promise<T> {
  return aboutFile(path, async () => {
    if (await isArchive(path)) throw new InputError(`${path}: expected a safetensors dump, got an svdq archive`);
    let dump = await openDump(path);
    try {
      if (tokens !== undefined) {
        if (tokens > dump.heldTokens) {
          throw new UsageError(`--tokens: expected at most ${dump.heldTokens}, as ${path} holds, got ${tokens}`);
        }
        await dump.close();
        dump = await openDump(path, { tokens });
      }
      return await work(dump);
    } finally {
      await dump.close();
    }
  });
}

/** By its first bytes; by its name where those are damaged. */
export async function isArchive(path: string): Promise<boolean> {
  const head = await firstBytes(path, 4);
  return head.equals(MAGIC.subarray(0, head.length)) || path.endsWith(".svdq");
}

/** The first bytes of a file, with zeros behind those of a shorter one. */
export async function firstBytes(path: string, count: number): Promise<Buffer> {
  const head = Buffer.alloc(count);
  try {
    const file = await open(path, "r");
    try {
      await file.read(head, 0, count, 0);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw fileError("read", path, cause);
  }
  return head;
}

export async function fileBytes(path: string): Promise<number> {
  return (await stat(path)).size;
}

/**
 * Throws a UsageError where writing `path` would destroy an input, or something that is no file; what writing it would
 * throw in the end where its folder does not exist.
 */
export async function checkOutput(option: string, path: string, inputs: string[]): Promise<void> {
  const old = await stat(path).catch(() => undefined);
  if (!old) {
    await stat(dirname(path)).catch((cause) => {
      throw fileError("write", path, cause);
    });
    return;
  }
  if (!old.isFile()) throw new UsageError(`${option}: expected a file to write, got ${path}, which is something else`);
  for (const input of inputs) {
    if ((await realpath(input).catch(() => input)) === (await realpath(path))) {
      throw new UsageError(`${option}: expected another file than the one that is read, got ${path}`);
    }
  }
}

/** The profile of an option that may be missing. */
export async function profileAt(path: string | undefined): Promise<ModelProfile | undefined> {
  if (path === undefined) return undefined;
  return aboutFile(path, async () => {
    if (await isArchive(path)) {
      throw new InputError(`${path}: expected a profile, as svdq profile writes it, got an svdq archive`);
    }
    return readProfile(path);
  });
}

/** An archive; where it is coded on a profile's bases, with that profile, which an option names. */
export async function archiveAt(path: string, profilePath: string | undefined): Promise<CodedCache> {
  return readArchive(path, { profile: await basesAt(profilePath) });
}

/** Bases of the profile that an option names; undefined where it names none. */
export async function basesAt(path: string | undefined): Promise<CodedCache | undefined> {
  return basesOf(await profileAt(path), path);
}

/** Bases of a profile that was read, at the path that an option names. */
export function basesOf(profile: ModelProfile | undefined, path: string | undefined): CodedCache | undefined {
  if (!profile || profile.bases) return profile?.bases;
  throw new InputError(`${path}: expected a profile with bases (svdq profile --bases), got none in it`);
}

/** A text as UTF-8. */
export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw fileError("read", path, cause);
  }
}
