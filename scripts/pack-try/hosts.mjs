// Where the package is used: { name, missing, use(folder) }, of a folder that has it installed, and use.mjs with its
// three callers. `missing` says what a host lacks; `use` throws an Error that names what came instead of EXPECTED.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { build, context } from "esbuild";
import { Miniflare } from "miniflare";
import { byPuppeteer, byWebKitDriver } from "./page-drivers.mjs";

const EXPECTED = "200 function function function true";

export const HOSTS = [
  inProcess("this Node", process.execPath, []),
  inProcess("Node 24", fetched("node"), []),
  inProcess("Deno", fetched("deno"), ["run", "--allow-read"]),
  inProcess("Bun", fetched("bun"), []),
  { name: "workerd, bundled", use: inWorkerd },
  ...inBrowser("Chromium", onPath("chromium", "chromium-browser", "google-chrome"), (executablePath) =>
    byPuppeteer({ executablePath, args: ["--no-sandbox", "--disable-gpu"] }),
  ),
  ...inBrowser("Firefox", onPath("firefox-esr", "firefox"), (executablePath) =>
    byPuppeteer({ executablePath, browser: "firefox" }),
  ),
  ...inBrowser("WebKit", onPath("xvfb-run") && onPath("WebKitWebDriver") && miniBrowser(), byWebKitDriver),
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

/** The browser that WebKitGTK brings, without a name in PATH. */
function miniBrowser() {
  const folders = ["x86_64", "aarch64"].map((cpu) => `/usr/lib/${cpu}-linux-gnu/webkit2gtk-4.1`);
  return folders.map((folder) => join(folder, "MiniBrowser")).find((path) => existsSync(path));
}

/** Bundled, with kernels.wasm copied beside the bundle; and the package's files as they are, by an import map. */
function inBrowser(name, path, driver) {
  const missing = path ? undefined : "not installed";
  return [bundled, unbundled].map((make) => ({
    name: `${name}, ${make.name}`,
    missing,
    use: async (folder) => expect(await titleIn(driver(path), await make(folder))),
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

/** What the page at index.html of a folder has for a title in the end, by a driver of page-drivers.mjs. */
async function titleIn(driver, folder) {
  const server = await context({ logLevel: "error" });
  try {
    const { port } = await server.serve({ servedir: folder, host: "127.0.0.1", port: 0 });
    return await driver(`http://127.0.0.1:${port}/`);
  } finally {
    await server.dispose();
  }
}
