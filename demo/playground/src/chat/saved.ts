/** Chats in the browser's own file system: caches in a PrefixStore, found by their tokens; what was said beside it. */
import { type ByteStore, PrefixStore } from "../../../../src/store/index.ts";
import type { Written } from "./conversation.ts";
import type { Saved } from "./messages.ts";

const BUDGET_BYTES = 2 ** 30;

interface Kept {
  saved: Saved;
  written: Written;
}

export class SavedChats {
  readonly #bytes: ByteStore;
  readonly #prefixes: PrefixStore;

  /** Stores of bytes for what was said, and for the caches. */
  constructor(chats: ByteStore, caches: ByteStore) {
    this.#bytes = chats;
    this.#prefixes = new PrefixStore(caches, { budgetBytes: BUDGET_BYTES });
  }

  /** Puts a model's chat in the place of its last one. */
  async save(model: string, archive: Uint8Array, kept: Kept, signal: AbortSignal): Promise<void> {
    const tokens = tokensOf(kept);
    const before = await this.#read(model);
    const chunks = [{ tokenFrom: 0, tokenTo: tokens.length, bytes: archive }];
    const { id } = await this.#prefixes.put({ model, tokens, chunks }, { signal });
    await this.#bytes.put(await keyOf(model), new TextEncoder().encode(JSON.stringify(kept)));
    if (!before) return;
    const old = await this.#prefixes.match({ model, tokens: tokensOf(before) });
    if (old && old.id !== id && old.tokenCount === before.saved.tokens) await this.#prefixes.delete(old.id);
  }

  /** The model's chat with its archive; undefined where there is none. */
  async find(model: string): Promise<(Kept & { archive: Uint8Array }) | undefined> {
    const kept = await this.#read(model);
    if (!kept) return undefined;
    const found = await this.#prefixes.match({ model, tokens: tokensOf(kept) });
    if (found?.tokenCount !== kept.saved.tokens) return undefined;
    const read = await this.#prefixes.read(found.id);
    return read && { ...kept, archive: new Uint8Array(await new Response(read.bytes).arrayBuffer()) };
  }

  async forget(model: string): Promise<void> {
    const kept = await this.#read(model);
    if (!kept) return;
    await this.#bytes.delete(await keyOf(model));
    const found = await this.#prefixes.match({ model, tokens: tokensOf(kept) });
    if (found) await this.#prefixes.delete(found.id);
  }

  async #read(model: string): Promise<Kept | undefined> {
    const found = await this.#bytes.get(await keyOf(model));
    return found && JSON.parse(new TextDecoder().decode(found.bytes));
  }
}

const tokensOf = ({ saved, written }: Kept): Int32Array => Int32Array.from(written.ids.slice(0, saved.tokens));

/** Names of models have characters that keys have not. */
async function keyOf(model: string): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(model)));
  return `chats/${Array.from(hash.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("")}.json`;
}
