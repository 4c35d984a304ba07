/** The container: what is written is read back from every kind of source, and no unsound file is opened. */
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type ByteSource,
  byteLengthOf,
  type Dtype,
  openSafetensors,
  type RandomAccess,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
} from "../../src/engines/safetensors.ts";
import { DisposedError, FormatError } from "../../src/errors.ts";
import { testDirectory } from "../support/directory.ts";
import { failureOf } from "../support/failure.ts";
import { safetensorsBytes } from "../support/tiny-dump.ts";

const pathOf = testDirectory();

const DTYPES: Dtype[] = ["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "U16", "I16", "F16", "BF16"];
DTYPES.push("U32", "I32", "F32", "U64", "I64", "F64", "C64");

const tensor = (name: string, dtype: Dtype, shape: number[], bytes: Uint8Array): TensorToWrite => ({
  name,
  dtype,
  shape,
  read: async () => bytes,
});

const arbitraryTensor = fc
  .record({
    name: fc.oneof(fc.string(), fc.constantFrom("__proto__", "constructor", "0", "läyers.0.键")),
    dtype: fc.constantFrom(...DTYPES),
    shape: fc.array(fc.nat(4), { maxLength: 3 }),
    seed: fc.nat(255),
  })
  .filter(({ name }) => name !== "__metadata__")
  .map(({ name, dtype, shape, seed }) => {
    const bytes = new Uint8Array(byteLengthOf(dtype, shape)).map((_, i) => (i * 37 + seed) % 256);
    return { name, dtype, shape, bytes };
  });

/** Every tensor of a file, then the file is closed. */
async function everything(file: SafetensorsFile) {
  const tensors: Record<string, unknown>[] = [];
  for (const [name, { dtype, shape }] of file.tensors) {
    tensors.push({ name, dtype, shape, bytes: await file.read(name) });
  }
  await file.close();
  return { metadata: { ...file.metadata }, tensors };
}

/** Bytes as a source that counts its closings. */
function counted(bytes: Uint8Array, size = bytes.length): RandomAccess & { closings: number } {
  return {
    size,
    closings: 0,
    read: async (offset, length) => Uint8Array.from(bytes.subarray(offset, offset + length)),
    async close() {
      this.closings++;
    },
  };
}

describe("safetensors", () => {
  it("reads back what it wrote, from every kind of source", async () => {
    const lists = fc.uniqueArray(arbitraryTensor, { selector: ({ name }) => name, maxLength: 6 });
    const metadata = fc.dictionary(fc.string(), fc.string(), { maxKeys: 4 });
    await fc.assert(
      fc.asyncProperty(lists, metadata, async (list, metadata) => {
        const path = pathOf("a.safetensors");
        const tensors = list.map(({ name, dtype, shape, bytes }) => tensor(name, dtype, shape, bytes));
        await writeSafetensors(path, metadata, tensors);
        const bytes = readFileSync(path);
        const sources: ByteSource[] = [path, pathToFileURL(path), new Blob([bytes]), bytes, counted(bytes)];
        const byName = (a: { name?: unknown }, b: { name?: unknown }) => (String(a.name) < String(b.name) ? -1 : 1);
        for (const source of sources) {
          const file = await everything(await openSafetensors(source));
          expect(file.metadata).toEqual({ ...metadata });
          expect(file.tensors.sort(byName)).toEqual([...list].sort(byName));
        }
      }),
      { numRuns: 40 },
    );
  });

  it("writes the format byte by byte, wider elements first, all of them aligned", async () => {
    const path = pathOf("a.safetensors");
    const tensors = [
      tensor("narrow", "U8", [3], Uint8Array.of(1, 2, 3)),
      tensor("wide", "F64", [1], new Uint8Array(8).fill(9)),
      tensor("middle", "F16", [2, 1], Uint8Array.of(4, 5, 6, 7)),
    ];
    await writeSafetensors(path, { model: "m" }, tensors);
    const json =
      '{"__metadata__":{"model":"m"},"wide":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},' +
      '"middle":{"dtype":"F16","shape":[2,1],"data_offsets":[8,12]},' +
      '"narrow":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}}';
    const padded = json.padEnd(Math.ceil(json.length / 8) * 8);
    const data = [9, 9, 9, 9, 9, 9, 9, 9, 4, 5, 6, 7, 1, 2, 3];
    expect(Uint8Array.from(readFileSync(path))).toEqual(safetensorsBytes(padded, Uint8Array.from(data)));
  });

  it("takes tensors from a generator and reads each once, in its turn", async () => {
    const order: string[] = [];
    async function* tensors(): AsyncGenerator<TensorToWrite> {
      for (const name of ["a", "b", "c"]) {
        order.push(`list ${name}`);
        const read = async () => {
          order.push(`read ${name}`);
          return new Uint8Array(4);
        };
        yield { name, dtype: "F32", shape: [], read };
      }
    }
    await writeSafetensors(pathOf("a"), {}, tensors());
    expect(order).toEqual(["list a", "list b", "list c", "read a", "read b", "read c"]);
  });

  it("gives fresh bytes: changing them changes nothing", async () => {
    const source = safetensorsBytes({ a: { dtype: "U8", shape: [2], data_offsets: [0, 2] } }, Uint8Array.of(5, 6));
    for (const bytes of [source, Buffer.from(source)]) {
      const file = await openSafetensors(bytes);
      (await file.read("a")).fill(0);
      expect(await file.read("a")).toEqual(Uint8Array.of(5, 6));
    }
  });

  it("keeps metadata of any name, and has no others", async () => {
    const { metadata } = await openSafetensors(safetensorsBytes('{"__metadata__":{"__proto__":"a","toString":"b"}}'));
    expect(Object.entries(metadata)).toEqual([
      ["__proto__", "a"],
      ["toString", "b"],
    ]);
    expect(metadata.constructor).toBeUndefined();
  });

  it("does not write what it could not read", async () => {
    writeFileSync(pathOf("old"), "old");
    const write = (...tensors: TensorToWrite[]) => failureOf(() => writeSafetensors(pathOf("old"), {}, tensors));
    const byte = tensor("a", "U8", [1], new Uint8Array(1));
    const cases: [Error, string][] = [
      [await write(byte, byte), "tensors: expected names that differ, got a twice"],
      [await write({ ...byte, name: "__metadata__" }), "tensors: expected names that differ, got __metadata__ twice"],
      [await write({ ...byte, dtype: "F12" as Dtype }), "a: dtype: expected a known one, got F12"],
      [await write({ ...byte, shape: [2, -1] }), "a: shape: expected integers from 0, got [2,-1]"],
      [await write({ ...byte, shape: [0.5] }), "a: shape: expected integers from 0, got [0.5]"],
      [await write({ ...byte, shape: [2] }), "a: expected 2 bytes, got 1"],
    ];
    for (const [error, message] of cases) {
      expect(error).toBeInstanceOf(RangeError);
      expect(error.message).toBe(message);
    }
    expect(readFileSync(pathOf("old"), "utf8")).toBe("old");
  });
});

// ------------------------------------------------------------------------------------------- unsound files
const ENTRY = { dtype: "U8", shape: [4], data_offsets: [0, 4] };
const FOUR = Uint8Array.of(1, 2, 3, 4);
const ALL_DTYPES = DTYPES.join(", ");

/** Header, data, what the message says after the name of the source. */
const UNSOUND: [string, Uint8Array, string][] = [
  ["an empty file", new Uint8Array(0), "length: expected at least 8 bytes, got 0 (at byte 0)"],
  ["a file cut in its length", new Uint8Array(7), "length: expected at least 8 bytes, got 7 (at byte 7)"],
  [
    "a header longer than the file",
    safetensorsBytes("{}", FOUR, 7n),
    "header length: expected at most 6 bytes (the file has 14), got 7 (at byte 0)",
  ],
  [
    "a header length of 64 set bits",
    safetensorsBytes("{}", FOUR, 2n ** 64n - 1n),
    "header length: expected at most 6 bytes (the file has 14), got 18446744073709551615 (at byte 0)",
  ],
  ["a header that is a number", safetensorsBytes("12"), "header: expected a JSON object, got 12 (at byte 8)"],
  ["a header that is a list", safetensorsBytes("[1,2]"), "header: expected a JSON object, got [1, 2] (at byte 8)"],
  ["a header that is null", safetensorsBytes("null"), "header: expected a JSON object, got null (at byte 8)"],
  [
    "metadata that are no object",
    safetensorsBytes({ __metadata__: "m" }),
    '__metadata__: expected an object, got "m" (at byte 8)',
  ],
  [
    "metadata that are no text",
    safetensorsBytes({ __metadata__: { layers: 8 } }),
    "__metadata__ layers: expected a string, got 8 (at byte 8)",
  ],
  ["an entry that is no object", safetensorsBytes({ a: 3 }), "a: entry: expected an object, got 3 (at byte 8)"],
  [
    "an unknown dtype",
    safetensorsBytes({ a: { ...ENTRY, dtype: "F12" } }, FOUR),
    `a: dtype: expected one of ${ALL_DTYPES}, got "F12" (at byte 8)`,
  ],
  [
    "a dtype that every object has",
    safetensorsBytes({ a: { ...ENTRY, dtype: "toString" } }, FOUR),
    `a: dtype: expected one of ${ALL_DTYPES}, got "toString" (at byte 8)`,
  ],
  [
    "no dtype",
    safetensorsBytes({ a: { ...ENTRY, dtype: undefined } }, FOUR),
    `a: dtype: expected one of ${ALL_DTYPES}, got nothing (at byte 8)`,
  ],
  [
    "a negative size",
    safetensorsBytes({ a: { ...ENTRY, shape: [-4] } }, FOUR),
    "a: shape: expected an array of integers from 0, got [-4] (at byte 8)",
  ],
  [
    "a shape that is no array",
    safetensorsBytes({ a: { ...ENTRY, shape: 4 } }, FOUR),
    "a: shape: expected an array of integers from 0, got 4 (at byte 8)",
  ],
  [
    "a shape past 2^53 bytes",
    safetensorsBytes({ a: { ...ENTRY, shape: [2 ** 40, 2 ** 40] } }, FOUR),
    "a: shape: expected fewer than 2^53 bytes, got [1099511627776, 1099511627776] (at byte 8)",
  ],
  [
    "one offset",
    safetensorsBytes({ a: { ...ENTRY, data_offsets: [0] } }, FOUR),
    "a: data_offsets: expected two integers from 0, got [0] (at byte 8)",
  ],
  [
    "offsets that fall",
    safetensorsBytes({ a: { ...ENTRY, data_offsets: [4, 0] } }, FOUR),
    "a: data_offsets: expected begin <= end, got [4, 0] (at byte 8)",
  ],
  [
    "offsets that contradict the shape",
    safetensorsBytes({ a: { ...ENTRY, shape: [1, 3] } }, FOUR),
    "a: data_offsets: expected 3 bytes for U8 [1,3], got 4 (at byte 8)",
  ],
  [
    "an overlap",
    safetensorsBytes({ a: ENTRY, b: { dtype: "U8", shape: [2], data_offsets: [3, 5] } }, new Uint8Array(5)),
    "b: data_offsets: expected a begin of 4, where the tensor before ends, got 3 (an overlap) (at byte 8)",
  ],
  [
    "a hole",
    safetensorsBytes({ b: { ...ENTRY, data_offsets: [5, 9] }, a: ENTRY }, new Uint8Array(9)),
    "b: data_offsets: expected a begin of 4, where the tensor before ends, got 5 (a hole) (at byte 8)",
  ],
  [
    "a hole at the start",
    safetensorsBytes({ a: { ...ENTRY, data_offsets: [1, 5] } }, new Uint8Array(5)),
    "a: data_offsets: expected a begin of 0, where the tensor before ends, got 1 (a hole) (at byte 8)",
  ],
  [
    "cut data",
    safetensorsBytes({ a: ENTRY }, FOUR.subarray(0, 3)),
    "a: expected a file of at least 65 bytes, got 64 (cut short) (at byte 64)",
  ],
  [
    "bytes behind the last tensor",
    safetensorsBytes({ a: ENTRY }, new Uint8Array(6)),
    "length: expected 65 bytes, got 67 (at byte 65)",
  ],
];

describe("an unsound safetensors file is refused", () => {
  it.each(UNSOUND)("%s", async (_, bytes, message) => {
    const error = await failureOf(() => openSafetensors(bytes));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toBe(`bytes: ${message}`);
  });

  it("says where the fault lies, and in which file", async () => {
    const path = pathOf("cut.safetensors");
    writeFileSync(path, safetensorsBytes({ a: ENTRY }, FOUR.subarray(0, 3)));
    const error = (await failureOf(() => openSafetensors(path))) as FormatError;
    expect(error.offsetBytes).toBe(64);
    expect(error.message).toBe(`${path}: a: expected a file of at least 65 bytes, got 64 (cut short) (at byte 64)`);
    const named = new File([new Uint8Array(3)], "cache.safetensors");
    expect((await failureOf(() => openSafetensors(named))).message).toMatch(/^cache\.safetensors: length: /);
    expect((await failureOf(() => openSafetensors(new Blob([])))).message).toMatch(/^blob: length: /);
  });

  it.each([
    ["not JSON", "{broken"],
    ["an empty header", ""],
    ["a byte order mark", "\ufeff{}"],
  ])("a header that is %s", async (_, text) => {
    const error = await failureOf(() => openSafetensors(safetensorsBytes(text)));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(/^bytes: header: expected JSON in UTF-8, got .+ \(at byte 8\)$/);
  });

  it("a header that is not UTF-8", async () => {
    const bytes = safetensorsBytes({ a: ENTRY }, FOUR);
    bytes[10] = 0xff;
    const error = await failureOf(() => openSafetensors(bytes));
    expect(error.message).toMatch(/^bytes: header: expected JSON in UTF-8, got .+ \(at byte 8\)$/);
  });

  it("a header past the limit of the format's own library, before it is read", async () => {
    const length = safetensorsBytes("", new Uint8Array(0), 100_000_001n);
    const source = counted(length, 2 ** 40);
    const error = await failureOf(() => openSafetensors(source));
    expect(error.message).toBe(
      "source: header length: expected at most 100000000 bytes (the format's limit), got 100000001 (at byte 0)",
    );
  });

  it("a sound file cut anywhere", async () => {
    const sound = safetensorsBytes({ __metadata__: { model: "m" }, a: ENTRY }, FOUR);
    await (await openSafetensors(sound)).close();
    for (let size = 0; size < sound.length; size++) {
      const error = await failureOf(() => openSafetensors(sound.subarray(0, size)));
      expect(error, `cut to ${size} bytes`).toBeInstanceOf(FormatError);
    }
  });

  it("a source that shrinks while its header is read", async () => {
    const sound = safetensorsBytes({ a: ENTRY }, FOUR);
    const left = (count: number) => counted(sound.subarray(0, count), sound.length);
    const inLength = await failureOf(() => openSafetensors(left(7)));
    expect(inLength).toBeInstanceOf(FormatError);
    expect(inLength.message).toBe("source: length: expected 8 bytes, got 7 (at byte 0)");
    const inHeader = await failureOf(() => openSafetensors(left(20)));
    expect(inHeader).toBeInstanceOf(FormatError);
    expect(inHeader.message).toBe("source: header: expected 53 bytes, got 12 (at byte 8)");
  });

  it("a file that shrinks after it was opened", async () => {
    const path = pathOf("a");
    writeFileSync(path, safetensorsBytes({ a: ENTRY }, FOUR));
    const file = await openSafetensors(path);
    truncateSync(path, 63);
    const error = await failureOf(() => file.read("a"));
    await file.close();
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toBe(`${path}: a: expected 4 bytes, got 2 (at byte 61)`);
  });
});

describe("a safetensors source", () => {
  it("that is no file is refused by its path", async () => {
    const missing = await failureOf(() => openSafetensors(pathOf("missing")));
    expect(missing).toBeInstanceOf(RangeError);
    expect(missing.message).toContain(`path: expected a file to read, got "${pathOf("missing")}" (ENOENT`);
    const directory = await failureOf(() => openSafetensors(pathOf()));
    expect(directory).toBeInstanceOf(RangeError);
    expect(directory.message).toBe(`path: expected a file to read, got "${pathOf()}" (not a regular file)`);
  });

  it.each([[42], [null], [undefined], [{ size: 3 }], [{ size: 0.5, read: async () => FOUR }]])(
    "of the wrong kind is a TypeError: %s",
    async (source) => {
      const error = await failureOf(() => openSafetensors(source as unknown as ByteSource));
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toBe(
        `source: expected a path, a file URL, a Blob, a Uint8Array or { size, read }, got ${typeof source}`,
      );
    },
  );

  it("is closed once, however often it is asked", async () => {
    const source = counted(safetensorsBytes({ a: ENTRY }, FOUR));
    const file = await openSafetensors(source);
    expect(source.closings).toBe(0);
    await Promise.all([file.close(), file.close()]);
    await file.close();
    expect(source.closings).toBe(1);
  });

  it("is closed when its header is refused", async () => {
    const source = counted(safetensorsBytes({ a: 3 }));
    await failureOf(() => openSafetensors(source));
    expect(source.closings).toBe(1);
  });

  it("gives nothing after it was closed", async () => {
    for (const source of [safetensorsBytes({ a: ENTRY }, FOUR), pathOf("a")]) {
      if (typeof source === "string") writeFileSync(source, safetensorsBytes({ a: ENTRY }, FOUR));
      const file = await openSafetensors(source);
      await file.close();
      const error = await failureOf(() => file.read("a"));
      expect(error).toBeInstanceOf(DisposedError);
      expect(error.message).toBe(`${file.name}: expected an open file, got one closed before`);
    }
  });

  it("names a tensor that it does not have", async () => {
    const file = await openSafetensors(safetensorsBytes({ a: ENTRY }, FOUR));
    const error = await failureOf(() => file.read("toString"));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe('bytes: tensor: expected one of 1 names, got "toString"');
  });
});
