/**
 * Names of prefixes by their tokens: a chain of hashes, one a chunk.
 *
 *   root   = SHA-256("svdq token chain 1", salt, model), each string with its length in front
 *   id(i)  = SHA-256(id(i - 1), tokens of chunk i as i32), both cut to 16 bytes
 *
 * Two token sequences that begin alike share the ids of the chunks they share. Without the salt nobody can tell whether
 * an id belongs to given tokens.
 */
import { joinChunks } from "../codec/chunks.ts";

const ID_BYTES = 16;

const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const bytesOfHex = (hex: string): Uint8Array => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));

/** The first 16 bytes of SHA-256, in hex. */
export async function digestOf(...parts: Uint8Array[]): Promise<string> {
  // A chunk is not copied for its digest: that would be as much garbage again as is read.
  const bytes = (parts.length === 1 ? parts[0] : joinChunks(parts)) as Uint8Array<ArrayBuffer>;
  return hexOf(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).subarray(0, ID_BYTES));
}

function withLength(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const out = new Uint8Array(4 + bytes.length);
  new DataView(out.buffer).setUint32(0, bytes.length, true);
  out.set(bytes, 4);
  return out;
}

export const rootOf = (salt: string, model: string): Promise<string> =>
  digestOf(...["svdq token chain 1", salt, model].map(withLength));

/** Id of the chunk of `tokens` that comes after the chunk `parent`. */
export function nextId(parent: string, tokens: Int32Array): Promise<string> {
  const bytes = new Uint8Array(4 * tokens.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < tokens.length; i++) view.setInt32(4 * i, tokens[i], true);
  return digestOf(bytesOfHex(parent), bytes);
}

/** Ids along one token sequence, each hashed once however many prefixes ask. */
export class TokenChain {
  readonly #root: Promise<string>;
  readonly #tokens: Int32Array;
  readonly #known = new Map<string, Promise<string>>();

  constructor(salt: string, model: string, tokens: Int32Array) {
    this.#root = rootOf(salt, model);
    this.#tokens = tokens;
  }

  get root(): Promise<string> {
    return this.#root;
  }

  /** Id of the chunk of tokens `from` to `to` - 1 after `parent`; undefined where there are not so many. */
  async after(parent: string, from: number, to: number): Promise<string | undefined> {
    if (to > this.#tokens.length) return undefined;
    const place = `${parent} ${to}`;
    const known = this.#known.get(place) ?? nextId(parent, this.#tokens.subarray(from, to));
    this.#known.set(place, known);
    return known;
  }
}
