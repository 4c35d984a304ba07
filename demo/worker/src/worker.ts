/** Entry of the worker. */
import { app } from "./app.ts";
import type { Env } from "./env.ts";
import { prefixesOf } from "./storage.ts";
import { tenantsOf } from "./tenants.ts";

export { PrefixBytes } from "./storage.ts";

export default {
  fetch: app.fetch,
  /** Once a day, by wrangler.jsonc: what uploads that broke off have left behind. */
  async scheduled(_event: unknown, env: Env): Promise<void> {
    for (const tenant of Object.keys(tenantsOf(env))) await (await prefixesOf(env, tenant)).sweep();
  },
};
