/**
 * Who asks. A request carries a bearer token; the worker knows tokens by their SHA-256 only. What is compared are
 * hashes, all of them and each whole, so that time tells nothing of a token or of how many tenants there are.
 */
import type { MiddlewareHandler } from "hono";
import type { App, Env } from "./env.ts";
import { Refusal } from "./errors.ts";

const encode = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const sha256 = async (text: string) => new Uint8Array(await crypto.subtle.digest("SHA-256", encode(text)));
const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** True where two arrays of one length are equal, in a time that depends on the length only. */
export function equalInFixedTime(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= a[i] ^ b[i % b.length];
  return difference === 0;
}

/** Name of the tenant whose token this is. */
export async function tenantOf(env: Env, token: string): Promise<string | undefined> {
  const presented = encode(hexOf(await sha256(token)));
  let found: string | undefined;
  for (const [name, digest] of Object.entries(tenantsOf(env))) {
    if (equalInFixedTime(presented, encode(digest))) found = name;
  }
  return found;
}

export function tenantsOf(env: Env): Record<string, string> {
  const tenants: unknown = JSON.parse(env.TENANTS);
  const isGood = (digest: unknown) => typeof digest === "string" && /^[0-9a-f]{64}$/.test(digest);
  if (typeof tenants !== "object" || tenants === null || !Object.values(tenants).every(isGood)) {
    throw new Error("TENANTS: expected names and SHA-256 in hex, got something else");
  }
  return tenants as Record<string, string>;
}

/** A folder name that tells nothing of the tenant's, and is one whatever that is. */
export const folderOf = async (tenant: string): Promise<string> => hexOf(await sha256(`tenant ${tenant}`));

/** Sets the tenant, or refuses: 401 without a good token, 429 past either limit. */
export const authenticate: MiddlewareHandler<App> = async (context, next) => {
  const { env, req } = context;
  const [, token] = /^Bearer ([\x21-\x7e]{1,512})$/.exec(req.header("authorization") ?? "") ?? [];
  const tenant = token === undefined ? undefined : await tenantOf(env, token);
  if (tenant === undefined) {
    await within(env.STRANGER_LIMIT, req.header("cf-connecting-ip") ?? "unknown");
    throw new Refusal(401, "UNAUTHORIZED", "authorization: expected a bearer token that is known, got another or none");
  }
  await within(env.TENANT_LIMIT, tenant);
  context.set("tenant", tenant);
  await next();
};

async function within(limiter: Env["TENANT_LIMIT"], key: string): Promise<void> {
  const { success } = await limiter.limit({ key });
  if (!success) throw new Refusal(429, "TOO_MANY_REQUESTS", "expected fewer requests, got too many: wait a little");
}
