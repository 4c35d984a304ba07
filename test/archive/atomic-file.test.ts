/** A file is written whole or not at all: every step of writing fails once, and the old file is there as before. */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { open as openReal } from "node:fs/promises";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { type AtomicFileOptions, fileError, writeFileAtomically } from "../../src/archive/atomic-file.ts";
import { CapacityError } from "../../src/errors.ts";
import { testDirectory } from "../support/directory.ts";
import { failureOf } from "../support/failure.ts";

/** Steps that are not in the handle fail through the module: the code of each, or nothing. */
const faults = vi.hoisted((): { rename?: string; chmod?: string } => ({}));

vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const failing = async (code: string) => Promise.reject(Object.assign(new Error(`${code}: injected`), { code }));
  const rename: typeof real.rename = (...args) => (faults.rename ? failing(faults.rename) : real.rename(...args));
  const chmod: typeof real.chmod = (...args) => (faults.chmod ? failing(faults.chmod) : real.chmod(...args));
  return { ...real, rename, chmod };
});

type Step = "open" | "write" | "sync" | "close" | "chmod" | "rename";
const STEPS: Step[] = ["open", "write", "sync", "close", "chmod", "rename"];

const pathOf = testDirectory();
let path = "";

beforeEach(() => {
  faults.rename = "";
  faults.chmod = "";
  path = pathOf("cache.svdq");
  writeFileSync(path, "old");
});

const systemError = (code: string): Error => Object.assign(new Error(`${code}: injected`), { code });

/** A real handle whose named step fails; a failing write has put down half of its bytes. */
function failingAt(step: Step, code: string): AtomicFileOptions {
  if (step === "rename" || step === "chmod") faults[step] = code;
  const fail = () => Promise.reject(systemError(code));
  return {
    async open(temporary, flags) {
      if (step === "open") return fail();
      const handle = await openReal(temporary, flags);
      return {
        async write(chunk, offset, length) {
          if (step !== "write") return handle.write(chunk, offset, length);
          await handle.write(chunk, offset, length >> 1);
          return fail();
        },
        sync: () => (step === "sync" ? fail() : handle.sync()),
        async close() {
          await handle.close();
          if (step === "close") return fail();
        },
      };
    },
  };
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const writeNew = (options?: AtomicFileOptions): Promise<void> =>
  writeFileAtomically(
    path,
    async (put) => {
      await put(bytesOf("new "));
      await put(bytesOf("file"));
    },
    options,
  );

/** The directory holds the old file, and nothing else. */
function expectOldFile(): void {
  expect(readdirSync(pathOf())).toEqual(["cache.svdq"]);
  expect(readFileSync(path, "utf8")).toBe("old");
}

describe("a file written in one step", () => {
  it("takes the place of the old one; no temporary file stays", async () => {
    await writeNew();
    expect(readFileSync(path, "utf8")).toBe("new file");
    expect(readdirSync(pathOf())).toEqual(["cache.svdq"]);
  });

  it("may be new, or empty", async () => {
    rmSync(path);
    await writeNew();
    expect(readFileSync(path, "utf8")).toBe("new file");
    await writeFileAtomically(path, async () => {});
    expect(readFileSync(path, "utf8")).toBe("");
  });

  it("is the old one until the end; its bytes gather beside it", async () => {
    await writeFileAtomically(path, async (put) => {
      await put(bytesOf("new"));
      expect(readFileSync(path, "utf8")).toBe("old");
      const names = readdirSync(pathOf()).filter((name) => name !== "cache.svdq");
      expect(names).toEqual([expect.stringMatching(/^\.cache\.svdq\.[0-9a-f]{8}\.tmp$/)]);
      expect(readFileSync(pathOf(names[0]), "utf8")).toBe("new");
    });
  });

  it("holds every byte where the system takes few at a time", async () => {
    await writeNew({
      async open(temporary, flags) {
        const handle = await openReal(temporary, flags);
        return {
          write: (chunk, offset, length) => handle.write(chunk, offset, Math.min(length, 3)),
          sync: () => handle.sync(),
          close: () => handle.close(),
        };
      },
    });
    expect(readFileSync(path, "utf8")).toBe("new file");
  });

  it("is synced before it is closed and renamed", async () => {
    const order: string[] = [];
    await writeNew({
      async open(temporary, flags) {
        const handle = await openReal(temporary, flags);
        return {
          write(...args) {
            order.push("write");
            return handle.write(...args);
          },
          sync() {
            order.push(`sync while the path holds ${readFileSync(path, "utf8")}`);
            return handle.sync();
          },
          close() {
            order.push("close");
            return handle.close();
          },
        };
      },
    });
    expect(order).toEqual(["write", "write", "sync while the path holds old", "close"]);
  });

  it("keeps the mode of the old one", async () => {
    for (const mode of [0o640, 0o755, 0o600]) {
      chmodSync(path, mode);
      await writeNew();
      expect(statSync(path).mode & 0o7777).toBe(mode);
    }
  });

  it("keeps a link and replaces what it points at, in the directory of that", async () => {
    mkdirSync(pathOf("elsewhere"));
    const target = pathOf("elsewhere/target");
    writeFileSync(target, "old target");
    rmSync(path);
    symlinkSync(target, path);
    await writeNew();
    expect(lstatSync(path).isSymbolicLink()).toBe(true);
    expect(readlinkSync(path)).toBe(target);
    expect(readFileSync(target, "utf8")).toBe("new file");
    expect(readdirSync(pathOf("elsewhere"))).toEqual(["target"]);
  });

  it("is written by many at once: one of them whole, nothing left over", async () => {
    const texts = Array.from({ length: 8 }, (_, i) => `${i}`.repeat(10_000));
    await Promise.all(texts.map((text) => writeFileAtomically(path, (put) => put(bytesOf(text)))));
    expect(texts).toContain(readFileSync(path, "utf8"));
    expect(readdirSync(pathOf())).toEqual(["cache.svdq"]);
  });
});

describe.each(STEPS)("the old file survives when %s fails", (step) => {
  it.each(["ENOSPC", "EDQUOT", "EFBIG"])("because there is no room: CapacityError (%s)", async (code) => {
    const error = await failureOf(() => writeNew(failingAt(step, code)));
    expect(error).toBeInstanceOf(CapacityError);
    expect(error.message).toBe(`path: expected room for the file, got ${JSON.stringify(path)} (${code}: injected)`);
    expect(error.cause).toMatchObject({ code });
    expectOldFile();
  });

  it.each(["EIO", "EACCES", "EROFS", "EXDEV"])("for another reason: RangeError (%s)", async (code) => {
    const error = await failureOf(() => writeNew(failingAt(step, code)));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe(`path: expected a file to write, got ${JSON.stringify(path)} (${code}: injected)`);
    expect(error.cause).toMatchObject({ code });
    expectOldFile();
  });
});

describe("the old file survives", () => {
  it("when the caller throws, whose error comes back as it is", async () => {
    const mine = new Error("mine");
    const throwing = writeFileAtomically(path, async (put) => {
      await put(bytesOf("new"));
      throw mine;
    });
    expect(await failureOf(() => throwing)).toBe(mine);
    expectOldFile();
  });

  it("when it is no file but a directory", async () => {
    rmSync(path);
    mkdirSync(path);
    writeFileSync(`${path}/inside`, "old");
    const error = await failureOf(() => writeNew());
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toContain(`path: expected a file to write, got "${path}" (EISDIR`);
    expect(readdirSync(pathOf())).toEqual(["cache.svdq"]);
    expect(readFileSync(`${path}/inside`, "utf8")).toBe("old");
  });

  it("when writing stops by signal: before the first chunk, between chunks, after the last", async () => {
    for (const chunksBefore of [0, 1, 2]) {
      const controller = new AbortController();
      const reason = new Error(`stop after ${chunksBefore}`);
      let written = 0;
      const work = writeFileAtomically(
        path,
        async (put) => {
          for (let i = 0; i <= 2; i++) {
            if (i === chunksBefore) controller.abort(reason);
            if (i === 2) break;
            await put(bytesOf("new"));
            written++;
          }
        },
        { signal: controller.signal },
      );
      expect(await failureOf(() => work)).toBe(reason);
      expect(written).toBe(chunksBefore);
      expectOldFile();
    }
  });

  it("when the signal was given before: nothing is opened", async () => {
    const signal = AbortSignal.abort(new Error("stopped"));
    const open = vi.fn();
    const write = vi.fn();
    const error = await failureOf(() => writeFileAtomically(path, write, { signal, open }));
    expect(error).toBe(signal.reason);
    expect(open).not.toHaveBeenCalled();
    expect(write).not.toHaveBeenCalled();
    expectOldFile();
  });
});

describe("a path that cannot be written", () => {
  it("is named", async () => {
    path = pathOf("missing/cache.svdq");
    const error = await failureOf(() => writeNew());
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toContain(`path: expected a file to write, got "${path}" (ENOENT`);
    expect(readdirSync(pathOf())).toEqual(["cache.svdq"]);
  });

  it("is named where no system takes it", async () => {
    path = pathOf("a\0b");
    const error = await failureOf(() => writeNew());
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toContain(`path: expected a file to write, got ${JSON.stringify(path)} (`);
  });
});

describe("fileError", () => {
  it("leaves errors without a system code as they are", () => {
    const numbered = Object.assign(new Error("mine"), { code: 28 });
    const named = Object.assign(new Error("mine"), { code: "ABORT_ERR" });
    for (const cause of [new Error("mine"), numbered, named, { code: "ENOSPC" }, "text"]) {
      expect(fileError("write", "p", cause)).toBe(cause);
    }
  });

  it("quotes the path and says what was tried", () => {
    expect((fileError("read", 'a"b\n', systemError("EACCES")) as Error).message).toBe(
      'path: expected a file to read, got "a\\"b\\n" (EACCES: injected)',
    );
  });
});
