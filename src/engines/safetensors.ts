/**
 * The safetensors container, read a tensor at a time and written in one step.
 *
 *   0 u64 headerBytes, little-endian | 8 header, JSON, may end in spaces | data
 *   header: { "__metadata__": { name: string }, tensor: { "dtype", "shape", "data_offsets": [begin, end] } }
 *
 * Offsets count from the end of the header. As the format's own library asks: tensors follow one another without
 * overlap or hole, and the last ends with the file.
 */
import { writeFileAtomically } from "../archive/atomic-file.ts";
import { type ByteSource, openSource, type RandomAccess } from "../archive/random-access.ts";
import { brief, DisposedError, FormatError } from "../errors.ts";

export type { ByteSource, RandomAccess } from "../archive/random-access.ts";
export { type Dump, type DumpOptions, openDump } from "./dump.ts";

/** Bytes an element, of the dtypes that safetensors names. */
export const DTYPE_BYTES = {
  BOOL: 1, U8: 1, I8: 1, F8_E5M2: 1, F8_E4M3: 1, F8_E8M0: 1,
  U16: 2, I16: 2, F16: 2, BF16: 2,
  U32: 4, I32: 4, F32: 4,
  U64: 8, I64: 8, F64: 8, C64: 8,
} as const; // biome-ignore format: a table by size

export type Dtype = keyof typeof DTYPE_BYTES;

export interface TensorEntry {
  dtype: Dtype;
  shape: number[];
  /** Begin and end in bytes from the start of the file. */
  offsets: [number, number];
}

export interface SafetensorsFile {
  /** Path, or what kind of source it is; stands in messages. */
  readonly name: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of the data. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Fresh bytes of one tensor, row-major, little-endian. RangeError for a name that the file does not have. */
  read(name: string): Promise<Uint8Array>;
  close(): Promise<void>;
}

const LENGTH_BYTES = 8;
/** The limit of the format's own library. */
const MOST_HEADER_BYTES = 100_000_000;

/** Reads and checks the header; tensors stay where they are. Throws FormatError, and RangeError for a path that is none. */
export async function openSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  const { access, name } = await openSource(source);
  try {
    const { metadata, tensors } = await readHeader(access, name);
    let closed = false;
    return {
      name,
      metadata,
      tensors,
      async read(tensor) {
        if (closed) throw new DisposedError(`${name}: expected an open file, got one closed before`);
        const entry = tensors.get(tensor);
        if (!entry)
          throw new RangeError(`${name}: tensor: expected one of ${tensors.size} names, got ${brief(tensor)}`);
        const [begin, end] = entry.offsets;
        return readExactly(access, `${name}: ${tensor}`, begin, end - begin);
      },
      async close() {
        if (closed) return;
        closed = true;
        await access.close?.();
      },
    };
  } catch (error) {
    await access.close?.();
    throw error;
  }
}

/** `length` bytes; a source that became shorter since it was opened gives fewer, which is a FormatError. */
async function readExactly(access: RandomAccess, where: string, offset: number, length: number): Promise<Uint8Array> {
  const bytes = await access.read(offset, length);
  if (bytes.length === length) return bytes;
  throw new FormatError(`${where}: expected ${length} bytes, got ${bytes.length}`, offset);
}

async function readHeader(access: RandomAccess, name: string) {
  const { size } = access;
  if (size < LENGTH_BYTES) throw new FormatError(`${name}: length: expected at least 8 bytes, got ${size}`, size);
  const first = await readExactly(access, `${name}: length`, 0, LENGTH_BYTES);
  const length = new DataView(first.buffer, first.byteOffset, first.byteLength).getBigUint64(0, true);
  const most = Math.min(size - LENGTH_BYTES, MOST_HEADER_BYTES);
  if (length > BigInt(most)) {
    const limit = most === MOST_HEADER_BYTES ? "the format's limit" : `the file has ${size}`;
    throw new FormatError(`${name}: header length: expected at most ${most} bytes (${limit}), got ${length}`, 0);
  }
  const header = parseHeader(await readExactly(access, `${name}: header`, LENGTH_BYTES, Number(length)), name);
  const metadata = metadataOf(header.__metadata__, name);
  const start = LENGTH_BYTES + Number(length);
  const entries = Object.entries(header).filter(([tensor]) => tensor !== "__metadata__");
  const tensors = entries.map(([tensor, entry]) => ({ tensor, ...entryOf(entry, `${name}: ${tensor}`, start) }));
  tensors.sort((a, b) => a.offsets[0] - b.offsets[0] || a.offsets[1] - b.offsets[1]);
  let end = start;
  for (const { tensor, offsets } of tensors) {
    if (offsets[0] !== end) {
      const fault = offsets[0] < end ? "an overlap" : "a hole";
      const expected = `${name}: ${tensor}: data_offsets: expected a begin of ${end - start}`;
      throw new FormatError(
        `${expected}, where the tensor before ends, got ${offsets[0] - start} (${fault})`,
        LENGTH_BYTES,
      );
    }
    end = offsets[1];
    if (end > size) {
      throw new FormatError(
        `${name}: ${tensor}: expected a file of at least ${end} bytes, got ${size} (cut short)`,
        size,
      );
    }
  }
  if (end !== size) throw new FormatError(`${name}: length: expected ${end} bytes, got ${size}`, end);
  return { metadata, tensors: new Map(tensors.map(({ tensor, ...entry }) => [tensor, entry])) };
}

type Fields = Record<string, unknown>;
const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function parseHeader(json: Uint8Array, name: string): Fields {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json));
  } catch (cause) {
    throw new FormatError(`${name}: header: expected JSON in UTF-8, got ${(cause as Error).message}`, LENGTH_BYTES);
  }
  if (isFields(header)) return header;
  throw new FormatError(`${name}: header: expected a JSON object, got ${brief(header)}`, LENGTH_BYTES);
}

function metadataOf(value: unknown, name: string): Record<string, string> {
  // Without a prototype, so that no name in a file means anything.
  const metadata: Record<string, string> = Object.create(null);
  if (value === undefined) return metadata;
  if (!isFields(value)) {
    throw new FormatError(`${name}: __metadata__: expected an object, got ${brief(value)}`, LENGTH_BYTES);
  }
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") {
      throw new FormatError(`${name}: __metadata__ ${key}: expected a string, got ${brief(text)}`, LENGTH_BYTES);
    }
    metadata[key] = text;
  }
  return metadata;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** One entry of the header; `start` is where the data begin in the file. */
function entryOf(value: unknown, where: string, start: number): TensorEntry {
  const fail = (what: string, expected: string, got: unknown): never => {
    throw new FormatError(`${where}: ${what}: expected ${expected}, got ${brief(got)}`, LENGTH_BYTES);
  };
  const { dtype, shape, data_offsets: offsets } = isFields(value) ? value : fail("entry", "an object", value);
  if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BYTES, dtype)) {
    return fail("dtype", `one of ${Object.keys(DTYPE_BYTES).join(", ")}`, dtype);
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) return fail("shape", "an array of integers from 0", shape);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return fail("data_offsets", "two integers from 0", offsets);
  }
  const [begin, end]: number[] = offsets;
  if (begin > end) fail("data_offsets", "begin <= end", offsets);
  const bytes = byteLengthOf(dtype as Dtype, shape);
  if (!Number.isSafeInteger(bytes)) fail("shape", "fewer than 2^53 bytes", shape);
  if (end - begin !== bytes) fail("data_offsets", `${bytes} bytes for ${dtype} [${shape}]`, end - begin);
  return { dtype: dtype as Dtype, shape, offsets: [start + begin, start + end] };
}

export const byteLengthOf = (dtype: Dtype, shape: number[]): number =>
  shape.reduce((product, n) => product * n, DTYPE_BYTES[dtype]);

export interface TensorToWrite {
  name: string;
  dtype: Dtype;
  shape: number[];
  /** Called once, when it is this tensor's turn: little-endian, row-major. */
  read(): Promise<Uint8Array>;
}

/**
 * Writes a file in one step: after a failure the old file is as it was. The list of tensors is taken at once, their
 * bytes one after the other; wider elements come first, so that every tensor is aligned. Node, Deno and Bun only.
 */
export async function writeSafetensors(
  path: string,
  metadata: Record<string, string>,
  tensors: Iterable<TensorToWrite> | AsyncIterable<TensorToWrite>,
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const list: TensorToWrite[] = [];
  for await (const tensor of tensors) list.push(tensor);
  list.sort((a, b) => DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype]);
  const header = headerFor(metadata, list);
  const write = async (put: (bytes: Uint8Array) => Promise<void>) => {
    await put(header);
    for (const { name, dtype, shape, read } of list) {
      const bytes = await read();
      const expected = byteLengthOf(dtype, shape);
      if (bytes.length !== expected) throw new RangeError(`${name}: expected ${expected} bytes, got ${bytes.length}`);
      await put(bytes);
    }
  };
  await writeFileAtomically(path, write, options);
}

/** Length, then JSON with spaces up to a multiple of 8. */
function headerFor(metadata: Record<string, string>, tensors: TensorToWrite[]): Uint8Array {
  const header: [string, unknown][] = [["__metadata__", metadata]];
  const names = new Set(["__metadata__"]);
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name)) throw new RangeError(`tensors: expected names that differ, got ${name} twice`);
    if (!Object.hasOwn(DTYPE_BYTES, dtype)) throw new RangeError(`${name}: dtype: expected a known one, got ${dtype}`);
    if (!shape.every(isCount)) throw new RangeError(`${name}: shape: expected integers from 0, got [${shape}]`);
    const begin = end;
    end += byteLengthOf(dtype, shape);
    header.push([name, { dtype, shape, data_offsets: [begin, end] }]);
    names.add(name);
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const bytes = new Uint8Array(Math.ceil((LENGTH_BYTES + json.length) / 8) * 8).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.length - LENGTH_BYTES), true);
  bytes.set(json, LENGTH_BYTES);
  return bytes;
}
