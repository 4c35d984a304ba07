/** Prefixes made up for tests: tokens that share beginnings, chunks whose bytes follow from their tokens. */
import type { NewPrefix, PrefixStore } from "../../src/store/prefix-store.ts";

/** `count` tokens; sequences of one seed begin alike. */
export const someTokens = (count: number, seed = 1): Int32Array =>
  Int32Array.from({ length: count }, (_, i) => (Math.imul(i + 1, 7919 * seed) >>> 0) % 50000);

/** A byte stands for each token and `bytesAToken` - 1 more; `version` tells two writings of the same tokens apart. */
export function chunksOf(tokens: Int32Array, chunkTokens: number, bytesAToken = 4, version = 0): NewPrefix["chunks"] {
  const chunks = [];
  for (let tokenFrom = 0; tokenFrom < tokens.length; tokenFrom += chunkTokens) {
    const tokenTo = Math.min(tokenFrom + chunkTokens, tokens.length);
    const bytes = new Uint8Array((tokenTo - tokenFrom) * bytesAToken);
    for (let i = 0; i < bytes.length; i++) bytes[i] = tokens[tokenFrom + Math.floor(i / bytesAToken)] + i + version;
    chunks.push({ tokenFrom, tokenTo, bytes });
  }
  return chunks;
}

export const somePrefix = (tokens: Int32Array, chunkTokens = 16, version = 0): NewPrefix => ({
  ...{ model: "m", tokens, chunks: chunksOf(tokens, chunkTokens, 4, version) },
});

/** All bytes of a prefix's chunks. */
export const bytesOf = (prefix: NewPrefix): Buffer =>
  Buffer.concat([...(prefix.chunks as Iterable<{ bytes: Uint8Array }>)].map(({ bytes }) => bytes));

export async function readAll(store: PrefixStore, id: string, range?: { start: number; end?: number }) {
  const found = await store.read(id, range);
  if (!found) return undefined;
  return Buffer.from(await new Response(found.bytes).arrayBuffer());
}
