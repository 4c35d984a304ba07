/** The worker on this machine: workerd through miniflare, with local storage. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { Miniflare, type MiniflareOptions } from "miniflare";

const HERE = import.meta.dirname;
const DIST = join(HERE, "../../dist");

export interface LocalOptions {
  storage: "r2" | "durable-object";
  /** Tenant -> bearer token. */
  tokens: Record<string, string>;
  port?: number;
  /** A folder where what is stored stays; in memory unless given. */
  persist?: string;
  budgetBytes?: number;
  mostPrefixBytes?: number;
  origins?: string;
  /** Requests that a tenant may make in 10 s, and a stranger in 60. */
  limits?: { tenant: number; stranger: number };
  inspectorPort?: number;
}

/** Listens when it resolves, on `url`. */
export async function startLocal(options: LocalOptions): Promise<{ url: string; dispose: () => Promise<void> }> {
  const worker = new Miniflare(await settingsOf(options));
  const url = (await worker.ready).href.replace(/\/$/, "");
  return { url, dispose: () => worker.dispose() };
}

async function settingsOf(options: LocalOptions): Promise<MiniflareOptions> {
  const { tokens, limits = { tenant: 1000, stranger: 20 }, persist } = options;
  const digests = Object.entries(tokens).map(([name, token]) => [
    name,
    createHash("sha256").update(token).digest("hex"),
  ]);
  const folder = (name: string) => (persist === undefined ? false : join(persist, name));
  return {
    host: "127.0.0.1",
    port: options.port ?? 0,
    ...(options.inspectorPort !== undefined && { inspectorPort: options.inspectorPort }),
    cf: false,
    compatibilityDate: "2026-06-01",
    modules: await modules(),
    bindings: {
      STORAGE: options.storage,
      ORIGINS: options.origins ?? "",
      BUDGET_BYTES: String(options.budgetBytes ?? 1e10),
      MOST_PREFIX_BYTES: String(options.mostPrefixBytes ?? 2 ** 25),
      TENANTS: JSON.stringify(Object.fromEntries(digests)),
      SALT: "a secret of this machine only",
    },
    r2Buckets: ["BUCKET"],
    durableObjects: { PREFIXES: { className: "PrefixBytes", useSQLite: true } },
    ratelimits: {
      TENANT_LIMIT: { namespace_id: "1001", simple: { limit: limits.tenant, period: 10 } },
      STRANGER_LIMIT: { namespace_id: "1002", simple: { limit: limits.stranger, period: 60 } },
    },
    r2Persist: folder("r2"),
    durableObjectsPersist: folder("durable-objects"),
  };
}

/** As wrangler bundles it: the package's entry for workerd, the kernels as a module beside it. */
async function modules() {
  const { outputFiles } = await build({
    entryPoints: [join(HERE, "src/worker.ts")],
    ...{ bundle: true, write: false, format: "esm", target: "es2022", platform: "neutral", logLevel: "warning" },
    mainFields: ["module", "main"],
    conditions: ["workerd", "worker"],
    // Files of the package that only Node reads import its modules when they are called.
    external: ["cloudflare:workers", "node:*", "*.wasm"],
    // Chunks without side effects are rightly left out.
    logOverride: { "ignored-bare-import": "silent" },
    loader: { ".html": "text" },
  });
  return [
    { type: "ESModule" as const, path: "worker.js", contents: outputFiles[0].text },
    { type: "CompiledWasm" as const, path: "kernels.wasm", contents: readFileSync(join(DIST, "kernels.wasm")) },
  ];
}
