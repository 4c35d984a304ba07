/** The playground's live chat with the real model: said, saved, reloaded, gone on with, from the same compressed cache. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, ElementHandle, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildPlayground } from "../../demo/playground/build.ts";
import { serveFolder } from "../../demo/playground/serve.ts";
import { readGgufTokenizer } from "../../scripts/onnx/gguf-tokenizer.ts";
import { realGguf } from "../support/real-gguf.ts";
import { accessibilityFaults, BROWSERS, openPage } from "./browsers.ts";
import { checkScreenshot } from "./screenshots.ts";

const NAME = "SmolLM2-135M-Instruct-ONNX";
/** SVDQ_CHAT=all: in Firefox too, a minute more. SVDQ_CHAT=long: in Chromium, with a long chat. */
const isLong = process.env.SVDQ_CHAT === "long";
const SENTENCE = "The captain counted the casks twice, and wrote 481 into the book. ";
const STORY = `A story. ${SENTENCE.repeat(8)}`;
/** What is said first and saved. */
const FIRST = `A story. ${SENTENCE.repeat(isLong ? 65 : 8)}What did the captain count?`;
const WAIT_MS = isLong ? 300_000 : 60_000;
const missing = [
  [`models/${NAME}`, "node scripts/make-onnx-model.mjs"],
  ["build/engines/node_modules/@huggingface/transformers", "node scripts/fetch-engine.mjs"],
].filter(([path]) => !existsSync(path));
for (const [path, command] of missing) console.log(`left out: the live chat, which takes ${path} (${command})`);
const isHere = missing.length === 0 && realGguf !== undefined;

const root = mkdtempSync(join(tmpdir(), "svdq-chat-"));
const pathOf = (name = ""): string => join(root, name);
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** The model's folder as scripts/make-onnx-model.mjs leaves it; one made before it wrote tokenizers has none. */
async function copyModel(folder: string): Promise<void> {
  cpSync(join("models", NAME), folder, { recursive: true, dereference: true });
  for (const [name, content] of Object.entries(await readGgufTokenizer(realGguf as string))) {
    writeFileSync(join(folder, name), JSON.stringify(content));
  }
}

class Chat {
  readonly page: Page;
  constructor(page: Page) {
    this.page = page;
  }

  textOf = (selector: string): Promise<string> => this.page.$eval(selector, (element) => element.textContent ?? "");

  /** Waits for the end of what was asked for, and gives what stands there then. */
  async done(pattern: RegExp): Promise<string> {
    await this.page.waitForFunction(
      (source) => new RegExp(source).test(document.getElementById("doing")?.textContent ?? ""),
      { timeout: WAIT_MS },
      `${pattern.source}|^Failed`,
    );
    const said = await this.textOf("#doing");
    if (said === "Failed") throw new Error(await this.textOf("#alert"));
    return said;
  }

  /** What the page says of the saved cache, as a table in Markdown. */
  async facts(): Promise<string> {
    const texts = await this.page.$$eval("#facts dt, #facts dd", (all) => all.map(({ textContent }) => textContent));
    const cells = [true, false].map((odd) => texts.filter((_, i) => (i % 2 === 0) === odd));
    return [cells[0], cells[0].map(() => "---:"), cells[1]].map((row) => `| ${row.join(" | ")} |`).join("\n");
  }

  /** Folders are read behind the back of the driver: waits until one of its files is there. */
  async pick(input: ElementHandle<HTMLInputElement>, folder: string, file: string): Promise<void> {
    await input.uploadFile(folder);
    await this.page.waitForFunction(
      (element, wanted) => Array.from((element as HTMLInputElement).files ?? []).some(({ name }) => name === wanted),
      { timeout: 20_000 },
      input,
      file,
    );
  }

  /** The answer's words and the note below them. */
  async say(text: string): Promise<{ words: string; note: string }> {
    await this.page.select("#most", "16");
    await this.page.$eval("#text", (area, value) => ((area as HTMLTextAreaElement).value = value), text);
    await this.page.focus("#text");
    await this.page.keyboard.press("Enter");
    await this.done(/^All said/);
    const last = "#log .message:last-child";
    const words = await this.page.$eval(last, (message) => message.childNodes[1].textContent ?? "");
    return { words, note: await this.textOf(`${last} small`) };
  }

  press = (id: string): Promise<void> => this.page.$eval(`#${id}`, (button) => (button as HTMLButtonElement).click());
}

const CHOSEN = BROWSERS.filter(({ name, path }) => path && (name === "Chromium" || process.env.SVDQ_CHAT === "all"));

describe.skipIf(!isHere).each(CHOSEN)("the live chat in $name", ({ name, launch }) => {
  let [browser, stop]: [Browser?, (() => Promise<void>)?] = [];
  let chat: Chat;
  let opened: Awaited<ReturnType<typeof openPage>>;
  let url: string;
  beforeAll(async () => {
    const models = pathOf(`${name}-models`);
    await copyModel(join(models, NAME));
    const server = await serveFolder(await buildPlayground(pathOf(`${name}-site`), models));
    [url, stop] = [server.url, server.stop];
    browser = await launch();
    opened = await openPage(browser, 1280, 900);
    chat = new Chat(opened.page);
    await opened.page.goto(`${url}chat.html`);
    await opened.page.waitForSelector("#beside option");
  });
  afterAll(async () => {
    await browser?.close();
    await stop?.();
  });

  it(
    "goes on after a reload with the words it goes on with before, and computes only what is new",
    async () => {
      await chat.press("load");
      expect(await chat.done(/^All ready/)).toContain("nothing is saved");
      const first = await chat.say(FIRST);
      expect(first.note).toMatch(isLong ? /^0 tokens .*, 1,\d+ prefilled/ : /^0 tokens .*, 1\d\d prefilled/);
      await chat.press("save");
      const tokens = /[\d,]+/.exec(await chat.done(/^All saved/))?.[0];

      await chat.press("back");
      await chat.done(/^All restored/);
      const before = await chat.say("Who wrote, and what?");
      await opened.page.reload();
      const restored = await chat.done(/^All restored/);
      expect(restored).toContain(`${tokens} tokens in`);
      expect(await chat.textOf("#log")).toContain(first.words);
      console.log(`${await chat.textOf("#said-title")} in ${name}:\n${await chat.facts()}`);
      const after = await chat.say("Who wrote, and what?");
      expect(after.words).toBe(before.words);
      expect(after.words.length).toBeGreaterThan(0);
      for (const { note } of [before, after])
        expect(note).toMatch(new RegExp(`^${tokens} tokens were .*, [12]\\d prefilled`));

      await chat.press("forget");
      await chat.done(/^All forgotten/);
      await opened.page.reload();
      expect(await chat.done(/^All ready/)).toContain("nothing is saved");
      const fresh = await chat.say("Who wrote, and what?");
      expect(fresh.words).not.toBe(before.words);
      const foreign = opened.requests.filter((one) => !/^(data|blob):/.test(one) && !one.startsWith(url));
      expect([foreign, opened.faults]).toEqual([[], []]);
    },
    2 * WAIT_MS,
  );

  it("stops in a prefill, and then answers", async () => {
    await opened.page.$eval("#text", (area, value) => ((area as HTMLTextAreaElement).value = value), STORY.repeat(3));
    await chat.press("send");
    await chat.done(/^Prefill/);
    await chat.press("stop");
    await chat.done(/^Stopped/);
    expect(await chat.textOf("#log .message:last-child")).toContain("stopped before an answer");
    expect((await chat.say("Go on.")).words.length).toBeGreaterThan(0);
  }, 60_000);

  it("says what is wrong where no folder is chosen, and stops loading", async () => {
    await opened.page.select("#from", "folder");
    await chat.press("load");
    await expect(chat.done(/^All/)).rejects.toThrow("expected a folder with config.json");
    await opened.page.select("#from", "beside");
    await chat.press("load");
    await chat.press("stop");
    await chat.done(/^Stopped/);
    expect(await chat.textOf("#alert")).toBe("");
  }, 60_000);

  // Firefox's driver takes no folders.
  it.skipIf(name === "Firefox")(
    "takes a folder of this machine, and says what a wrong one lacks",
    async () => {
      const input = (await opened.page.$("#folder")) as ElementHandle<HTMLInputElement>;
      await opened.page.select("#from", "folder");
      const wrong = pathOf(`${name}-wrong`);
      mkdirSync(wrong);
      writeFileSync(join(wrong, "notes.txt"), "no model");
      await chat.pick(input, wrong, "notes.txt");
      await chat.press("load");
      await expect(chat.done(/^All/)).rejects.toThrow(/expected config\.json in this folder, got none/);
      await chat.pick(input, join(pathOf(`${name}-models`), NAME), "config.json");
      await chat.press("load");
      await chat.done(/^All ready/);
      expect((await chat.say("Hello.")).words.length).toBeGreaterThan(0);
    },
    60_000,
  );

  it("has no fault that axe finds in light or dark, and fits a phone", async () => {
    const { page } = opened;
    expect(await accessibilityFaults(page, name)).toEqual([]);
    await page.setViewport({ width: 390, height: 844 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    // As it is when nothing is loaded: no times in the pictures.
    await page.evaluate(() => localStorage.clear());
    await page.reload();
    await page.waitForSelector("#beside option");
    await page.evaluate(() => scrollTo(0, 0));
    checkScreenshot(`${name.toLowerCase()}-chat-phone`, await page.screenshot());
    await page.setViewport({ width: 1280, height: 800 });
    checkScreenshot(`${name.toLowerCase()}-chat-desktop`, await page.screenshot());
  });
});
