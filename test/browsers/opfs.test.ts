/** The contract of stores on the browsers' own file systems, by calls into a page. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe } from "vitest";
import { serveFolder } from "../../demo/playground/serve.ts";
import type { ByteStore } from "../../src/store/byte-store.ts";
import { storeContract } from "../store/contract.ts";
import { BROWSERS } from "./browsers.ts";

const root = mkdtempSync(join(tmpdir(), "svdq-browsers-"));
const pathOf = (name = ""): string => join(root, name);
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** In the page: bytes cross as arrays, errors as text. */
const CALL = `async (name, method, args) => {
  const { OpfsStore } = await import("/dist/store/opfs.js");
  const unpack = (value) => (Array.isArray(value) ? Uint8Array.from(value) : value);
  const pack = (value) => JSON.parse(JSON.stringify(value ?? null, (_, x) => (x instanceof Uint8Array ? [...x] : x)));
  try {
    const store = await OpfsStore.open(name);
    return { result: pack(await store[method](...args.map(unpack))) };
  } catch (error) {
    return { failure: String(error) };
  }
}`;

function overPage(page: Page, name: string): ByteStore {
  const call = async (method: keyof ByteStore, ...given: unknown[]) => {
    const args = given.filter((arg) => arg !== undefined).map((arg) => (arg instanceof Uint8Array ? [...arg] : arg));
    const code = `(${CALL})(${[name, method, args].map((one) => JSON.stringify(one)).join()})`;
    const { result, failure } = (await page.evaluate(code)) as { result?: never; failure?: string };
    if (failure !== undefined) throw new Error(failure);
    return (result ?? undefined) as never;
  };
  return {
    conditionalPut: true,
    async get(key, range) {
      const held = (await call("get", key, range)) as
        | { bytes: number[]; totalBytes: number; version: string }
        | undefined;
      return held && { ...held, bytes: Uint8Array.from(held.bytes) };
    },
    put: (key, bytes, condition) => call("put", key, bytes, condition),
    delete: (key) => call("delete", key),
    list: (prefix) => call("list", prefix),
  };
}

describe.each(BROWSERS.filter(({ path }) => path))("$name", ({ launch }) => {
  let [browser, page, stop]: [Browser?, Page?, (() => Promise<void>)?] = [];
  beforeAll(async () => {
    const folder = pathOf();
    cpSync("dist", `${folder}/dist`, { recursive: true, filter: (path) => !path.includes("types") });
    writeFileSync(`${folder}/index.html`, "<!doctype html><title>store</title><link rel=icon href=data:,>");
    const server = await serveFolder(folder);
    stop = server.stop;
    browser = await launch();
    page = await browser.newPage();
    await page.goto(server.url);
  });
  afterAll(async () => {
    await browser?.close();
    await stop?.();
  });

  let tests = 0;
  storeContract("OPFS", () => overPage(page!, `t${++tests}`));
});
