/**
 * The tokenizer of a GGUF file as Transformers.js takes it: tokenizer.json and tokenizer_config.json of a byte-level
 * BPE whose text is split as llama.cpp splits for `tokenizer.ggml.pre` "smollm": each digit by itself, then GPT-2's rule.
 */
import { open } from "node:fs/promises";

/** More than all metadata of such a file take. */
const HEAD_BYTES = 8 << 20;
const [U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64] = Array.from({ length: 13 }, (_, i) => i);
const SIZES = {
  [U8]: 1,
  [I8]: 1,
  [U16]: 2,
  [I16]: 2,
  [U32]: 4,
  [I32]: 4,
  [F32]: 4,
  [BOOL]: 1,
  [U64]: 8,
  [I64]: 8,
  [F64]: 8,
};
/** tokenizer.ggml.token_type of tokens that no text is made of. */
const CONTROL = 3;

type Value = string | number | undefined | Value[];

/** Metadata under `tokenizer.`: strings, 4-byte integers, lists of these. */
async function tokenizerFields(path: string): Promise<Map<string, Value>> {
  const file = await open(path);
  const bytes = Buffer.alloc(HEAD_BYTES);
  await file.read(bytes, 0, HEAD_BYTES, 0).finally(() => file.close());
  let at = 24;
  const text = () => {
    const length = Number(bytes.readBigUInt64LE(at));
    at += 8 + length;
    return bytes.toString("utf8", at - length, at);
  };
  const value = (type: number): Value => {
    if (type === STRING) return text();
    if (type === ARRAY) {
      const [element, count] = [bytes.readUInt32LE(at), Number(bytes.readBigUInt64LE(at + 4))];
      at += 12;
      return Array.from({ length: count }, () => value(element));
    }
    const size = SIZES[type];
    if (size === undefined) throw new Error(`${path}: expected a type of GGUF 3, got ${type}`);
    at += size;
    return size === 4 && type !== F32 ? bytes.readInt32LE(at - 4) : undefined;
  };
  const entries = Array.from({ length: Number(bytes.readBigUInt64LE(16)) }, (): [string, Value] => {
    const key = text();
    at += 4;
    return [key, value(bytes.readUInt32LE(at - 4))];
  });
  return new Map(entries.filter(([key]) => key.startsWith("tokenizer.")));
}

/** The contents of the two files, by their names. */
export async function readGgufTokenizer(path: string): Promise<Record<string, object>> {
  const fields = await tokenizerFields(path);
  const ggml = (name: string) => fields.get(`tokenizer.ggml.${name}`);
  if (ggml("model") !== "gpt2" || ggml("pre") !== "smollm") {
    throw new Error(`${path}: expected a tokenizer gpt2 of kind smollm, got ${ggml("model")} of kind ${ggml("pre")}`);
  }
  const tokens = ggml("tokens") as string[];
  const types = ggml("token_type") as number[];
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const added = tokens.flatMap((content, id) => (types[id] === CONTROL ? [{ id, content, ...special }] : []));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const named = (name: string) => tokens[ggml(name) as number];
  return {
    "tokenizer.json": {
      ...{ version: "1.0", truncation: null, padding: null, added_tokens: added, normalizer: null },
      pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "Digits", individual_digits: true }, byteLevel] },
      ...{ post_processor: null, decoder: byteLevel },
      model: {
        ...{ type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null },
        ...{ fuse_unk: false, byte_fallback: false },
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges: ggml("merges"),
      },
    },
    "tokenizer_config.json": {
      ...{ tokenizer_class: "GPT2Tokenizer", add_prefix_space: false, clean_up_tokenization_spaces: false },
      ...{ bos_token: named("bos_token_id"), eos_token: named("eos_token_id"), unk_token: named("unknown_token_id") },
      chat_template: fields.get("tokenizer.chat_template"),
    },
  };
}
