/** Debian's own Chromium and Firefox, headless, driven by puppeteer-core (docs/adr/0040); those that are there. */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import puppeteer, { type Browser, type Page } from "puppeteer-core";

export interface HostBrowser {
  name: string;
  /** Undefined where it is not installed; its tests are left out, and say so. */
  path: string | undefined;
  launch(): Promise<Browser>;
}

const onPath = (...names: string[]): string | undefined =>
  process.env.PATH?.split(":")
    .flatMap((folder) => names.map((name) => `${folder}/${name}`))
    .find((path) => existsSync(path));

const chromium = onPath("chromium", "chromium-browser", "google-chrome");
const firefox = onPath("firefox-esr", "firefox");

/** Firefox shows the dark colours, Chromium the light ones. */
export const BROWSERS: HostBrowser[] = [
  {
    name: "Chromium",
    path: chromium,
    launch: () =>
      puppeteer.launch({ executablePath: chromium!, headless: true, args: ["--no-sandbox", "--disable-gpu"] }),
  },
  {
    name: "Firefox",
    path: firefox,
    launch: () =>
      puppeteer.launch({
        ...{ browser: "firefox", executablePath: firefox!, headless: true },
        extraPrefsFirefox: { "layout.css.prefers-color-scheme.content-override": 0 },
      }),
  },
];

for (const { name, path } of BROWSERS) if (!path) console.log(`left out: tests in ${name} (not installed)`);

/** A page that remembers what went wrong and what it asked for. */
export async function openPage(browser: Browser, width: number, height: number) {
  const page: Page = await browser.newPage();
  const faults: string[] = [];
  const requests: string[] = [];
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  await page.setViewport({ width, height });
  return { page, faults, requests };
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FIND_FAULTS = `axe.run().then(({ violations }) =>
  violations.map(({ id, nodes }) => id + ": " + nodes.map(({ target }) => target.join(" ")).join(", ")))`;

/**
 * What axe finds, a line a rule: WCAG 2 A and AA, and its own best practices. In Chromium in light and in dark; Firefox's
 * driver cannot change its colours, which are dark.
 */
export async function accessibilityFaults(page: Page, browser: string): Promise<string[]> {
  await page.evaluate(`${AXE}; undefined`);
  if (browser === "Firefox") return (await page.evaluate(FIND_FAULTS)) as string[];
  const faults: string[] = [];
  for (const value of ["dark", "light"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
    const found = (await page.evaluate(FIND_FAULTS)) as string[];
    faults.push(...found.map((fault) => `${value}: ${fault}`));
  }
  return faults;
}
