/** The playground as its users meet it, in real browsers, served under a path of its own. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, ElementHandle, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildPlayground } from "../../demo/playground/build.ts";
import { serveFolder } from "../../demo/playground/serve.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { compress } from "../../src/codec/compress.ts";
import { openDump } from "../../src/engines/dump.ts";
import { PLATFORMS } from "../support/platforms.ts";
import { TinyDump } from "../support/tiny-dump.ts";
import { ggufBytes, llamaKeys } from "../support/tiny-gguf.ts";
import { tinyLlama, tinyState } from "../support/tiny-state.ts";
import { BROWSERS, openPage } from "./browsers.ts";
import { checkScreenshot, differingPart } from "./screenshots.ts";

/** The goal is 1 s on an idle machine; tests share theirs. */
const FIRST_PICTURE_MS = 4000;
const WAIT = { timeout: 60_000 };

const root = mkdtempSync(join(tmpdir(), "svdq-browsers-"));
const pathOf = (name = ""): string => join(root, name);
afterAll(() => rmSync(root, { recursive: true, force: true }));
let [url, stop]: [string, (() => Promise<void>)?] = [""];
beforeAll(async () => {
  mkdirSync(pathOf("site/deep"), { recursive: true });
  await buildPlayground(pathOf("site/deep/playground"));
  const server = await serveFolder(pathOf("site"));
  url = `${server.url}deep/playground/`;
  stop = server.stop;
});
afterAll(() => stop?.());

/** Files to choose, written where a browser can read them. */
async function files(): Promise<Record<"text" | "dump" | "archive" | "state" | "gguf", string>> {
  const bytes = new TinyDump({ tokens: 200 }).bytes();
  const dump = await openDump(bytes);
  const coded = await compress(await PLATFORMS[2].create({}), dump, { recent: 16 });
  const contents = {
    text: new TextEncoder().encode("These are my notes, and no cache at all."),
    ...{ dump: bytes, archive: joinChunks(encodeArchive(coded)) },
    ...{ state: tinyState(tinyLlama(200)), gguf: ggufBytes(llamaKeys()) },
  };
  const write = ([name, content]: [string, Uint8Array]) => {
    const path = pathOf(`tiny-${name}`);
    writeFileSync(path, content);
    return [name, path];
  };
  return Object.fromEntries(Object.entries(contents).map(write));
}

const textOf = (page: Page, id: string): Promise<string> =>
  page.$eval(`#${id}`, (element) => element.textContent ?? "");

/** Waits until the text of an element matches. */
const whenText = (page: Page, id: string, pattern: RegExp) =>
  page.waitForFunction(
    (name, source) => new RegExp(source).test(document.getElementById(name)?.textContent ?? ""),
    WAIT,
    id,
    pattern.source,
  );

async function choose(page: Page, ...paths: string[]): Promise<void> {
  const input = (await page.$("#file")) as ElementHandle<HTMLInputElement>;
  await input.uploadFile(...paths);
}

describe.each(BROWSERS.filter(({ path }) => path))("the playground in $name", ({ name, launch }) => {
  let [browser, opened]: [Browser?, Awaited<ReturnType<typeof openPage>>?] = [];
  let paths: Awaited<ReturnType<typeof files>>;
  beforeAll(async () => {
    paths = await files();
    browser = await launch();
    opened = await openPage(browser, 1280, 800);
    await opened.page.goto(url);
  });
  afterAll(() => browser?.close());

  it("draws the sample's first picture at once and then all of them, asking for nothing from elsewhere", async () => {
    const { page, requests } = opened!;
    await page.waitForSelector("#spectrum svg", WAIT);
    const first = await page.evaluate(() => performance.now());
    console.log(`${name}: first picture after ${first.toFixed(0)} ms`);
    expect(first).toBeLessThan(FIRST_PICTURE_MS);
    await whenText(page, "doing", /^All pictures drawn/);
    await page.waitForFunction(() => document.querySelectorAll("#figures svg").length >= 10, WAIT);
    const labels = await page.$$eval("#figures svg", (svgs) => svgs.map((svg) => svg.getAttribute("aria-label")));
    expect(labels[0]).toMatch(/^Spectrum of the keys of layer 5: \d+ of 192 latent channels are kept$/);
    expect(await textOf(page, "summary")).toContain("438 kB");
    expect(await textOf(page, "facts")).toContain("1,664 tokens and 64 that follow");
    expect(requests.filter((one) => !one.startsWith(url) && !one.startsWith("data:"))).toEqual([]);
  });

  it("has no fault that axe finds, and fits a phone", async () => {
    const { page } = opened!;
    await page.addScriptTag({
      content: readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"),
    });
    const violations = await page.evaluate(
      "axe.run().then(({ violations }) => violations.map(({ id, nodes }) => id + ': ' + nodes.map(({ target }) => target.join(' ')).join(', ')))",
    );
    expect(violations).toEqual([]);
    await page.evaluate(() => document.getElementById("doing")!.replaceChildren("All pictures drawn"));
    checkScreenshot(`${name.toLowerCase()}-desktop`, await page.screenshot());
    await page.setViewport({ width: 390, height: 844 });
    await page.waitForFunction(
      () => document.querySelector("#spectrum svg")!.getBoundingClientRect().width < 390,
      WAIT,
    );
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    const screenshot = await page.screenshot();
    checkScreenshot(`${name.toLowerCase()}-phone`, screenshot);
    // The comparison itself sees a difference.
    expect(differingPart(screenshot, screenshot)).toBe(0);
    await page.evaluate(() => document.getElementById("open")!.style.setProperty("visibility", "hidden"));
    expect(differingPart(screenshot, await page.screenshot())).toBeGreaterThan(0.02);
    await page.evaluate(() => document.getElementById("open")!.style.removeProperty("visibility"));
    await page.setViewport({ width: 1280, height: 800 });
  });

  it("follows the keyboard, the newest setting last, and keeps drawing frames while it computes", async () => {
    const { page } = opened!;
    const before = await textOf(page, "summary");
    await page.evaluate(() => {
      const state = globalThis as unknown as { gaps: number[]; last: number };
      state.gaps = [];
      state.last = performance.now();
      const frame = (now: number) => {
        state.gaps.push(now - state.last);
        state.last = now;
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    });
    await page.focus("#keyBits");
    for (let i = 0; i < 3; i++) await page.keyboard.press("ArrowRight");
    expect(await page.$eval("#keyBits", (input) => input.getAttribute("aria-valuetext"))).toBe("2");
    await whenText(page, "summary", /counted2\.64/);
    expect(await textOf(page, "summary")).not.toBe(before);
    await whenText(page, "doing", /^(quality|budgets)/);
    const gaps = await page.evaluate(() => (globalThis as unknown as { gaps: number[] }).gaps);
    const sorted = gaps.toSorted((a, b) => a - b);
    const [median, most] = [sorted[sorted.length >> 1], sorted[sorted.length - 1]];
    console.log(`${name}: ${gaps.length} frames, median gap ${median.toFixed(1)} ms, longest ${most.toFixed(0)} ms`);
    expect(median).toBeLessThan(50);
    expect(most).toBeLessThan(1500);
  });

  it("stops when told to", async () => {
    const { page } = opened!;
    await page.focus("#valueBits");
    await page.keyboard.press("ArrowLeft");
    await whenText(page, "doing", /layer|attention|quality/);
    await page.$eval("#stop", (button) => (button as HTMLButtonElement).click());
    await whenText(page, "doing", /^Stopped/);
    expect(await page.$$eval("#figures svg", (svgs) => svgs.length)).toBeGreaterThanOrEqual(10);
  });

  it("says why a file does not open, and keeps what was open", async () => {
    const { page } = opened!;
    await choose(page, paths.text);
    await whenText(page, "alert", /tiny-text: expected a safetensors dump, a llama\.cpp state or an svdq archive/);
    expect(await textOf(page, "facts")).toContain("built-in sample");
    await page.waitForSelector("#spectrum svg");
    await choose(page, paths.state);
    await whenText(page, "alert", /expected the model's GGUF file/);
  });

  it("opens a dump, an archive, and a llama.cpp state with its model", async () => {
    const { page, faults } = opened!;
    await choose(page, paths.dump);
    await whenText(page, "facts", /tiny-dump \(dump\).*200 tokens/);
    await choose(page, paths.archive);
    await whenText(page, "facts", /tiny-archive \(archive\)/);
    expect(await page.$eval("#codec", (set) => (set as HTMLFieldSetElement).disabled)).toBe(true);
    await whenText(page, "attention", /An archive alone/);
    await choose(page, paths.state, paths.gguf);
    await whenText(page, "facts", /\(state\): Tiny.*no queries/);
    await whenText(page, "doing", /^All pictures drawn/);
    expect(await textOf(page, "alert")).toBe("");
    expect(faults).toEqual([]);
  });
});
