// How a page's title is had from a browser, once the page has set it: functions of its address.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const WAIT_MS = 20_000;

/** Chromium and Firefox. Throws an Error that names what the page said went wrong. */
export const byPuppeteer = (options) => async (url) => {
  const browser = await puppeteer.launch({ headless: true, ...options });
  try {
    const page = await browser.newPage();
    const faults = [];
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
    await page.goto(url);
    await page
      .waitForFunction(() => document.title !== "", { timeout: WAIT_MS })
      .catch((error) => {
        throw new Error(`${error.message}: ${faults.join("; ")}`);
      });
    return await page.title();
  } finally {
    await browser.close();
  }
};

/** WebKitGTK's MiniBrowser, which puppeteer does not drive: by WebDriver (w3.org/TR/webdriver2), on a screen of Xvfb. */
export const byWebKitDriver = (binary) => async (url) => {
  const [port, folder] = [await freePort(), mkdtempSync(join(tmpdir(), "svdq-webkit-"))];
  const driver = spawn("xvfb-run", ["-a", "WebKitWebDriver", `--port=${port}`], {
    ...{ stdio: "ignore", detached: true },
    env: { ...process.env, TMPDIR: folder }, // xvfb-run leaves something there
  });
  const ask = async (method, path, body) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: body && JSON.stringify(body) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`WebKitWebDriver: ${path}: ${value.message}`);
    return value;
  };
  try {
    await until(() => ask("GET", "/status").catch(() => undefined));
    const options = { binary, args: ["--automation"] };
    const { sessionId } = await ask("POST", "/session", {
      capabilities: { alwaysMatch: { "webkitgtk:browserOptions": options } },
    });
    await ask("POST", `/session/${sessionId}/url`, { url });
    const title = await until(() => ask("GET", `/session/${sessionId}/title`));
    await ask("DELETE", `/session/${sessionId}`);
    return title;
  } finally {
    process.kill(-driver.pid); // Xvfb and what the driver started too
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
};

/** The first answer that is something. */
async function until(ask) {
  for (const end = Date.now() + WAIT_MS; ; ) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`expected an answer within ${WAIT_MS / 1000} s, got none`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
