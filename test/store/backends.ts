/** Every backend that runs on this machine, each made empty for a test. */
import { join } from "node:path";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { createStorage } from "unstorage";
import fsDriver from "unstorage/drivers/fs";
import memoryDriver from "unstorage/drivers/memory";
import type { ByteStore } from "../../src/store/byte-store.ts";
import { FileStore } from "../../src/store/fs.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { OpfsStore } from "../../src/store/opfs.ts";
import { type R2BucketLike, R2Store } from "../../src/store/r2.ts";
import { UnstorageStore } from "../../src/store/unstorage.ts";
import { type KvNamespaceLike, WorkersKvStore } from "../../src/store/workers-kv.ts";
import { MemoryDirectory } from "./memory-directory.ts";

/** A Worker whose Durable Object is a store; what it answers to is called from Node through miniflare. */
const OBJECT = `
import { DurableObject } from "cloudflare:workers";
import { DurableObjectStore } from "./src/store/durable-object.ts";
export class Box extends DurableObject {
  store = new DurableObjectStore(this.ctx.storage, { valueBytes: 1000 });
  async call(method, args) {
    try { return { result: await this.store[method](...args) }; } catch (error) { return { failure: String(error) }; }
  }
  async keys() { return [...(await this.ctx.storage.list()).keys()]; }
}
export default { fetch: () => new Response("ok") };
`;

export async function startWorkerd(): Promise<Miniflare> {
  const { outputFiles } = await build({
    stdin: { contents: OBJECT, resolveDir: process.cwd(), loader: "ts" },
    ...{ bundle: true, format: "esm", target: "es2022", write: false, external: ["cloudflare:workers"] },
  });
  return new Miniflare({
    ...{ modules: true, script: outputFiles[0].text, compatibilityDate: "2026-06-01", cf: false },
    r2Buckets: ["BUCKET"],
    kvNamespaces: ["KV"],
    durableObjects: { BOX: { className: "Box", useSQLite: true } },
  });
}

export interface DurableBox {
  call(method: keyof ByteStore, args: unknown[]): Promise<{ result?: never; failure?: string }>;
  keys(): Promise<string[]>;
}

interface Namespace {
  idFromName(name: string): object;
  get(id: object): unknown;
}

export async function durableBox(workerd: Miniflare, name: string): Promise<DurableBox> {
  const namespace = (await workerd.getDurableObjectNamespace("BOX")) as unknown as Namespace;
  return namespace.get(namespace.idFromName(name)) as DurableBox;
}

/** Errors cross as text: miniflare cannot bring them over as what they are. */
export function overRpc(box: DurableBox): ByteStore {
  const call = async (method: keyof ByteStore, ...args: unknown[]) => {
    const { result, failure } = await box.call(method, args);
    if (failure !== undefined) throw new Error(failure);
    return result as never;
  };
  return {
    conditionalPut: true,
    get: (key, range) => call("get", key, range),
    put: (key, bytes, condition) => call("put", key, bytes, condition),
    delete: (key) => call("delete", key),
    list: (prefix) => call("list", prefix),
  };
}

export interface Place {
  /** A folder of this test's own. */
  folder: string;
  /** Of this test alone; ends in a slash. */
  base: string;
  workerd: Miniflare;
}

/** "OPFS" here is the store on a stand-in for the browser's directory; a browser's own is another test's. */
export const BACKENDS: [name: string, make: (place: Place) => ByteStore | Promise<ByteStore>][] = [
  ["memory", () => new MemoryStore()],
  ["file system", ({ folder }) => new FileStore(join(folder, "store"))],
  ["OPFS, on a stand-in", () => new OpfsStore(new MemoryDirectory("root"))],
  ["unstorage, memory", () => new UnstorageStore(createStorage({ driver: memoryDriver() }))],
  ["unstorage, fs", ({ folder }) => new UnstorageStore(createStorage({ driver: fsDriver({ base: folder }) }))],
  [
    "R2 of workerd",
    async ({ workerd, base }) => new R2Store((await workerd.getR2Bucket("BUCKET")) as unknown as R2BucketLike, base),
  ],
  [
    "Workers KV of workerd",
    async ({ workerd, base }) =>
      new WorkersKvStore((await workerd.getKVNamespace("KV")) as unknown as KvNamespaceLike, base),
  ],
  ["Durable Object of workerd", async ({ workerd, base }) => overRpc(await durableBox(workerd, base))],
];
