// Where the package is used: { name, missing, use(folder) }, of a folder that has it installed, and use.mjs with its
// three callers. `missing` says what a host lacks; `use` throws an Error that names what came instead of EXPECTED.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { build, context } from "esbuild";
import { Miniflare } from "miniflare";
import puppeteer from "puppeteer-core";

const EXPECTED = "200 function function function true";

export const HOSTS = [
  inProcess("this Node", process.execPath, []),
  inProcess("Node 24", fetched("node"), []),
  inProcess("Deno", fetched("deno"), ["run", "--allow-read"]),
  inProcess("Bun", fetched("bun"), []),
  { name: "workerd, bundled", use: inWorkerd },
  ...inBrowser("Chromium", onPath("chromium", "chromium-browser", "google-chrome"), {
    args: ["--no-sandbox", "--disable-gpu"],
  }),
  ...inBrowser("Firefox", onPath("firefox-esr", "firefox"), { browser: "firefox" }),
];

function fetched(name) {
  return resolve("build/runtimes/node_modules/.bin", process.platform === "win32" ? `${name}.exe` : name);
}

function onPath(...names) {
  const folders = process.env.PATH.split(delimiter);
  return folders.flatMap((folder) => names.map((name) => join(folder, name))).find((path) => existsSync(path));
}

function expect(said) {
  if (said !== EXPECTED) throw new Error(`expected "${EXPECTED}", got "${said}"`);
}

function inProcess(name, path, flags) {
  const missing = existsSync(path) ? undefined : "not installed (node scripts/fetch-runtimes.mjs)";
  const use = async (folder) =>
    expect(execFileSync(path, [...flags, "print.mjs"], { cwd: folder, encoding: "utf8" }).trim());
  return { name, missing, use };
}

const BUNDLE = { bundle: true, format: "esm", target: "es2022", external: ["node:*"], logLevel: "warning" };

/** As wrangler does: the wasm file is a module of its own, which workerd has compiled. */
async function inWorkerd(folder) {
  const outdir = join(folder, "bundled-worker");
  await build({
    ...BUNDLE,
    entryPoints: [join(folder, "worker.mjs")],
    outdir,
    outExtension: { ".js": ".mjs" },
    conditions: ["workerd", "worker"],
    loader: { ".wasm": "copy" },
  });
  const wasm = readdirSync(outdir).find((name) => name.endsWith(".wasm"));
  const server = new Miniflare({
    modules: [
      { type: "ESModule", path: "worker.mjs", contents: readFileSync(join(outdir, "worker.mjs"), "utf8") },
      { type: "CompiledWasm", path: wasm, contents: readFileSync(join(outdir, wasm)) },
    ],
    modulesRoot: "/",
    cf: false,
    compatibilityDate: "2026-01-01",
  });
  try {
    expect(await (await server.dispatchFetch("http://localhost/")).text());
  } finally {
    await server.dispose();
  }
}

/** Bundled, with kernels.wasm copied beside the bundle; and the package's files as they are, by an import map. */
function inBrowser(name, path, options) {
  const missing = path ? undefined : "not installed";
  return [bundled, unbundled].map((make) => ({
    name: `${name}, ${make.name}`,
    missing,
    use: async (folder) => expect(await titleIn({ executablePath: path, ...options }, await make(folder))),
  }));
}

async function bundled(folder) {
  const site = join(folder, "bundled-page");
  await build({ ...BUNDLE, entryPoints: [join(folder, "page.mjs")], outdir: site });
  copyFileSync(join(folder, "node_modules/svdq/dist/kernels.wasm"), join(site, "kernels.wasm"));
  writeFileSync(join(site, "index.html"), html("page.js"));
  return site;
}

/** The addresses are those that the manifest's exports have for browsers. */
async function unbundled(folder) {
  const root = join(folder, "node_modules/svdq");
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const addressOf = (to) => to.browser ?? to.default ?? to;
  const imports = Object.entries(exports).map(([name, to]) => [
    name.replace(/^\./, "svdq"),
    addressOf(to).replace(/^\./, "./node_modules/svdq"),
  ]);
  const map = JSON.stringify({ imports: Object.fromEntries(imports) });
  writeFileSync(join(folder, "index.html"), html("page.mjs", `<script type="importmap">${map}</script>`));
  return folder;
}

const html = (script, map = "") =>
  `<!doctype html><title></title><link rel="icon" href="data:,">${map}<script type="module" src="${script}"></script>`;

/** What the page at index.html of a folder has for a title in the end. */
async function titleIn(options, folder) {
  const server = await context({ logLevel: "error" });
  const browser = await puppeteer.launch({ headless: true, ...options });
  try {
    const { port } = await server.serve({ servedir: folder, host: "127.0.0.1", port: 0 });
    const page = await browser.newPage();
    const faults = [];
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
    await page.goto(`http://127.0.0.1:${port}/`);
    await page
      .waitForFunction(() => document.title !== "", { timeout: 20_000 })
      .catch((error) => {
        throw new Error(`${error.message}: ${faults.join("; ")}`);
      });
    return await page.title();
  } finally {
    await browser.close();
    await server.dispose();
  }
}
