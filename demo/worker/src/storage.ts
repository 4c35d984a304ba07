/** Where a tenant's bytes lie: R2 or a Durable Object of its own, as STORAGE says. */
import { DurableObject } from "cloudflare:workers";
import { type ByteRange, type ByteStore, PrefixStore, type PutCondition, Uses } from "svdq/store";
import { DurableObjectStore } from "svdq/store/durable-object";
import { R2Store } from "svdq/store/r2";
import { type Env, numberOf } from "./env.ts";
import { folderOf } from "./tenants.ts";

/** What is read, checked and held before a first byte goes out, by each of the readers at a time. */
export const PIECE_BYTES = 2 ** 20;

/** A store of bytes that the worker calls; methods, because those alone can be called from outside. */
export class PrefixBytes extends DurableObject<Env> {
  readonly #store = new DurableObjectStore(this.ctx.storage);

  get(key: string, range?: ByteRange) {
    return this.#store.get(key, range);
  }
  put(key: string, bytes: Uint8Array, condition?: PutCondition) {
    return this.#store.put(key, bytes, condition);
  }
  delete(key: string) {
    return this.#store.delete(key);
  }
  list(prefix: string) {
    return this.#store.list(prefix);
  }
}

async function bytesOf(env: Env, folder: string): Promise<ByteStore> {
  if (env.STORAGE === "r2") return new R2Store(env.BUCKET, `${folder}/`);
  if (env.STORAGE !== "durable-object") {
    throw new Error(`STORAGE: expected "r2" or "durable-object", got ${env.STORAGE}`);
  }
  const object = env.PREFIXES.get(env.PREFIXES.idFromName(folder));
  return {
    conditionalPut: true,
    get: (key, range) => object.get(key, range),
    put: (key, bytes, condition) => object.put(key, bytes, condition),
    delete: (key) => object.delete(key),
    list: (prefix) => object.list(prefix),
  };
}

/** What tenants used since this isolate last wrote it down. */
const uses = new Map<string, Uses>();

/**
 * A store for one request: nothing of it may wait for another request, which the platform may have ended. Ids of one
 * tenant mean nothing to another.
 */
export async function prefixesOf(env: Env, tenant: string): Promise<PrefixStore> {
  if (!env.SALT) throw new Error("SALT: expected a secret, got none");
  const mine = uses.get(tenant) ?? new Uses();
  uses.set(tenant, mine);
  return new PrefixStore(await bytesOf(env, await folderOf(tenant)), {
    budgetBytes: numberOf(env, "BUDGET_BYTES"),
    pieceBytes: PIECE_BYTES,
    salt: JSON.stringify([env.SALT, tenant]),
    uses: mine,
  });
}
