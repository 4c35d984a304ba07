/** The stored prefix that shares most tokens with a sequence. */
import { type IndexPrefix, isExpired, type PrefixIndex } from "./prefix-index.ts";
import type { Place } from "./prefix-view.ts";
import type { TokenChain } from "./token-chain.ts";

/** Of all prefixes of the model that are alive: where the longest match lies, and its tokens. */
export async function bestMatch(
  index: PrefixIndex,
  model: string,
  chain: TokenChain,
  now: number,
): Promise<(Place & { tokens: number }) | undefined> {
  const root = await chain.root;
  let best: (Place & { tokens: number }) | undefined;
  // The newest of equals: its bytes are the last that were put.
  const newest = Object.entries(index.prefixes).sort(([, a], [, b]) => b.created - a.created);
  for (const [id, prefix] of newest) {
    if (prefix.model !== model || isExpired(prefix, now)) continue;
    const shared = await sharedChunks(prefix, chain, root);
    if (shared.tokens > (best?.tokens ?? 0)) best = { prefix: id, ...shared };
  }
  return best;
}

/** How many chunks and tokens of a prefix the chain has too; chunks without tokens do not count at the end. */
async function sharedChunks(
  prefix: IndexPrefix,
  chain: TokenChain,
  root: string,
): Promise<{ count: number; tokens: number }> {
  const found = { count: 0, tokens: 0 };
  let [parent, at] = [root, 0];
  for (const [i, chunk] of prefix.chunks.entries()) {
    const id = await chain.after(parent, at, at + chunk.tokens);
    if (id !== chunk.id) break;
    [parent, at] = [id, at + chunk.tokens];
    if (chunk.tokens > 0) Object.assign(found, { count: i + 1, tokens: at });
  }
  return found;
}
