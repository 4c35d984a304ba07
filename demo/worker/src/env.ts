/** What the platform and wrangler.jsonc give the worker. */
import type { ByteStore } from "svdq/store";
import type { R2BucketLike } from "svdq/store/r2";

interface RateLimit {
  limit(options: { key: string }): Promise<{ success: boolean }>;
}

export interface Env {
  STORAGE: string;
  ORIGINS: string;
  BUDGET_BYTES: string;
  MOST_PREFIX_BYTES: string;
  /** Secret: { "tenant": "SHA-256 of the bearer token, 64 hex digits" }. */
  TENANTS: string;
  /** Secret: makes ids of prefixes. */
  SALT: string;
  BUCKET: R2BucketLike;
  PREFIXES: {
    idFromName(name: string): unknown;
    get(id: unknown): Omit<ByteStore, "conditionalPut">;
  };
  /** By tenant. */
  TENANT_LIMIT: RateLimit;
  /** By address, of requests without a good token. */
  STRANGER_LIMIT: RateLimit;
}

/** Of hono: bindings, and what `authenticate` finds. */
export interface App {
  Bindings: Env;
  Variables: { tenant: string };
}

/** A number among the variables; an Error, which is this worker's own mistake, where it is none. */
export function numberOf(env: Env, name: "BUDGET_BYTES" | "MOST_PREFIX_BYTES"): number {
  const value = Number(env[name]);
  if (!Number.isSafeInteger(value) || value <= 0) throw new Error(`${name}: expected bytes, got ${env[name]}`);
  return value;
}
