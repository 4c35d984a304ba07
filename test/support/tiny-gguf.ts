/** GGUF files made by hand: keys, and tensors of f32. */
type Scalar = "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "bool" | "u64" | "i64" | "f64";
export type Typed =
  | { type: Scalar; value: number | bigint }
  | { type: "string"; value: string | Uint8Array }
  | { type: "array"; of: Scalar | "string"; value: (number | bigint | string)[] };

const NUMBERS = ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"];

/** Bytes one after the other, little-endian. */
export class Bytes {
  #parts: number[] = [];
  raw(bytes: Iterable<number>): this {
    for (const byte of bytes) this.#parts.push(byte);
    return this;
  }
  #view(length: number, put: (view: DataView) => void): this {
    const view = new DataView(new ArrayBuffer(length));
    put(view);
    return this.raw(new Uint8Array(view.buffer));
  }
  u32 = (x: number): this => this.#view(4, (view) => view.setUint32(0, x, true));
  i32 = (x: number): this => this.#view(4, (view) => view.setInt32(0, x, true));
  u64 = (x: number | bigint): this => this.#view(8, (view) => view.setBigUint64(0, BigInt(x), true));
  scalar(type: Scalar, value: number | bigint): this {
    const x = Number(value);
    if (type === "u8" || type === "i8" || type === "bool") return this.raw([x & 255]);
    if (type === "u16" || type === "i16") return this.raw([x & 255, (x >> 8) & 255]);
    if (type === "u32" || type === "i32") return this.u32(x >>> 0);
    if (type === "f32") return this.#view(4, (view) => view.setFloat32(0, x, true));
    if (type === "f64") return this.#view(8, (view) => view.setFloat64(0, x, true));
    return this.u64(BigInt.asUintN(64, BigInt(value)));
  }
  string(text: string | Uint8Array): this {
    const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
    return this.u64(bytes.length).raw(bytes);
  }
  zerosTo(multiple: number): this {
    while (this.#parts.length % multiple !== 0) this.#parts.push(0);
    return this;
  }
  get length(): number {
    return this.#parts.length;
  }
  bytes = (): Uint8Array => Uint8Array.from(this.#parts);
}

function put(out: Bytes, typed: Typed): void {
  out.u32(NUMBERS.indexOf(typed.type));
  if (typed.type === "string") out.string(typed.value);
  else if (typed.type === "array") {
    out.u32(NUMBERS.indexOf(typed.of)).u64(typed.value.length);
    for (const item of typed.value) {
      if (typed.of === "string") out.string(item as string);
      else out.scalar(typed.of, item as number | bigint);
    }
  } else out.scalar(typed.type, typed.value);
}

/** A file of version 3 unless said; tensors follow one another from the first aligned byte. */
export function ggufBytes(
  keys: Record<string, Typed>,
  tensors: Record<string, number[]> = {},
  { version = 3, alignment = 32, type = 0 } = {},
): Uint8Array {
  const out = new Bytes().raw(new TextEncoder().encode("GGUF")).u32(version);
  out.u64(Object.keys(tensors).length).u64(Object.keys(keys).length);
  for (const [key, typed] of Object.entries(keys)) put(out.string(key), typed);
  let offset = 0;
  for (const [name, values] of Object.entries(tensors)) {
    out.string(name).u32(1).u64(values.length).u32(type).u64(offset);
    offset = Math.ceil((offset + 4 * values.length) / alignment) * alignment;
  }
  for (const values of Object.values(tensors)) {
    out.zerosTo(alignment);
    for (const value of values) out.scalar("f32", value);
  }
  return out.bytes();
}

export const text = (value: string): Typed => ({ type: "string", value });
export const u32 = (value: number): Typed => ({ type: "u32", value });
export const f32 = (value: number): Typed => ({ type: "f32", value });

/** Keys of a llama of 2 layers, 2 kv heads and head dim 32; `more` replaces keys, undefined removes one. */
export function llamaKeys(more: Record<string, Typed | undefined> = {}, architecture = "llama"): Record<string, Typed> {
  const own = {
    ...{ block_count: u32(2), embedding_length: u32(128), context_length: u32(2048), "rope.freq_base": f32(10000) },
    ...{ "attention.head_count": u32(4), "attention.head_count_kv": u32(2), "rope.dimension_count": u32(32) },
    ...more,
  };
  const keys: Record<string, Typed> = {
    "general.architecture": text(architecture),
    "general.name": text("Tiny"),
    "tokenizer.ggml.tokens": { type: "array", of: "string", value: ["a", "b", "ç"] },
  };
  for (const [key, typed] of Object.entries(own)) if (typed) keys[`${architecture}.${key}`] = typed;
  return keys;
}
