/**
 * The runtimes and how each does the programme: { name, run }. `run` gives the programme's result, with version and
 * milliseconds to load where a clock sees that, or { missing } with what was looked for. When `signal` is aborted, what
 * was started is ended, its folders are removed and the promise is rejected.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, normalize, resolve, sep } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import { attentionModel, ONNX_MODULE } from "./onnx.ts";
import type { Outcome } from "./report.ts";

const FOLDER = "build/runtimes/node_modules/.bin";
const TIMEOUT = 120_000;
const MINIBROWSER = ["x86_64", "aarch64"].map((cpu) => `/usr/lib/${cpu}-linux-gnu/webkit2gtk-4.1/MiniBrowser`);
const QUIET = ["--no-first-run", "--disable-gpu", "--disable-background-networking", "--disable-component-update"];
const FIXTURE = "test/fixtures/smollm2-novel.safetensors";
const run = promisify(execFile);

export interface Host {
  name: string;
  run(signal?: AbortSignal): Promise<Outcome>;
}

export const HOSTS: Host[] = [
  {
    name: "Node 20",
    run: (signal) => inProcess(process.versions.node.startsWith("20.") ? process.execPath : undefined, [], signal),
  },
  { name: "Node 24", run: (signal) => inProcess(installed("node"), [], signal) },
  { name: "Deno", run: (signal) => inProcess(installed("deno"), ["run", "--allow-read", "--allow-env"], signal) },
  { name: "Bun", run: (signal) => inProcess(installed("bun"), [], signal) },
  { name: "workerd", run: inWorkerd },
  {
    name: "Chromium",
    run: (signal) =>
      inBrowser(signal, onPath("chromium"), (url, folder) => [
        "--headless", "--no-sandbox", `--user-data-dir=${folder}`, ...QUIET, url,
      ]), // biome-ignore format: a flag and what it stands for
  },
  {
    name: "Firefox",
    run: (signal) =>
      inBrowser(signal, onPath("firefox-esr") ?? onPath("firefox"), (url, folder) => [
        "--headless", "--no-remote", "--profile", folder, url,
      ]), // biome-ignore format: a flag and what it stands for
  },
  {
    name: "WebKit",
    run: (signal) => inBrowser(signal, MINIBROWSER.some((path) => existsSync(path)) ? onPath("xvfb-run") : undefined, (url) => [
      "-a", MINIBROWSER.find((path) => existsSync(path)) as string, url,
    ]), // biome-ignore format: a flag and what it stands for
  },
];

const installed = (name: string): string | undefined =>
  existsSync(join(FOLDER, name)) ? join(FOLDER, name) : undefined;

function onPath(name: string): string | undefined {
  return process.env.PATH?.split(":")
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
}

const MISSING = { missing: "not installed: node scripts/fetch-runtimes.mjs" };

async function inProcess(binary: string | undefined, flags: string[], signal?: AbortSignal): Promise<Outcome> {
  if (!binary) return MISSING;
  return withFolder(async (folder) => {
    const model = join(folder, "attention.onnx");
    await writeFile(model, await attentionModel(await readFile(FIXTURE)));
    const peer = ONNX_MODULE ? [resolve(ONNX_MODULE), model] : [];
    const options = { timeout: TIMEOUT, signal };
    const { stdout } = await run(binary, [...flags, "bench/runtimes/in-process.mjs", ...peer], options);
    return JSON.parse(stdout);
  });
}

async function inWorkerd(signal?: AbortSignal): Promise<Outcome> {
  const binary = installed("workerd");
  if (!binary) return MISSING;
  return withFolder(async (folder) => {
    await build({
      entryPoints: ["bench/runtimes/worker.mjs"],
      outfile: join(folder, "worker.js"),
      bundle: true,
      format: "esm",
      target: "es2022",
      external: ["*.wasm", "fixture.bin", "node:*"],
      logLevel: "error",
    });
    await copyFile("dist/kernels.wasm", join(folder, "kernels.wasm"));
    await copyFile(FIXTURE, join(folder, "fixture.bin"));
    await writeFile(join(folder, "config.capnp"), WORKERD_CONFIG);
    const [port, { stdout }] = await Promise.all([freePort(), run(binary, ["--version"])]);
    const address = `127.0.0.1:${port}`;
    const server = spawn(binary, ["serve", join(folder, "config.capnp"), "--socket-addr", `http=${address}`], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    try {
      const response = await answerOf(`http://${address}/`, signal);
      return { version: stdout.trim(), ...failed((await response.json()) as Answer) };
    } finally {
      server.kill();
    }
  });
}

const WORKERD_CONFIG = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .programme)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
const programme :Workerd.Worker = (
  modules = [
    (name = "worker.js", esModule = embed "worker.js"),
    (name = "kernels.wasm", wasm = embed "kernels.wasm"),
    (name = "fixture.bin", data = embed "fixture.bin"),
  ],
  compatibilityDate = "2026-01-01",
);
`;

/** The page's result from a browser started with `flags(url, a new folder for its profile)`. */
async function inBrowser(
  signal: AbortSignal | undefined,
  binary: string | undefined,
  flags: (url: string, folder: string) => string[],
): Promise<Outcome> {
  if (!binary) return MISSING;
  return withFolder(async (folder) => {
    const { server, url, result } = await serve();
    signal?.throwIfAborted();
    // What it leaves in its own folder for temporary files goes with the profile.
    const env = { ...process.env, TMPDIR: folder };
    const browser = spawn(binary, flags(url, folder), { stdio: "ignore", detached: true, env });
    const died = new Promise<never>((_, reject) => {
      browser.once("exit", (code) => reject(new Error(`${binary}: ended with ${code} before the page answered`)));
      browser.once("error", reject);
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
      setTimeout(() => reject(new Error(`${binary}: no answer in ${TIMEOUT / 1000} s`)), TIMEOUT).unref();
    });
    try {
      return failed(await Promise.race([result, died]));
    } finally {
      died.catch(() => {});
      stopGroup(browser);
      server.close();
      server.closeAllConnections();
    }
  });
}

/** A browser's helpers are in its process group. */
function stopGroup(child: ChildProcess): void {
  try {
    if (child.pid) process.kill(-child.pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

const MODEL = "/attention.onnx";
const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".mjs": "text/javascript",
  ".js": "text/javascript",
  ".wasm": "application/wasm",
};

/** Serves the repository's files on loopback and takes one result. Isolation headers give pages a fine clock. */
async function serve(): Promise<{ server: Server; url: string; result: Promise<Answer> }> {
  const root = process.cwd() + sep;
  const model = await attentionModel(await readFile(FIXTURE));
  let answer: (result: Answer) => void = () => {};
  const result = new Promise<Answer>((resolve) => {
    answer = resolve;
  });
  const server = createServer(async (request, response) => {
    response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
    response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    if (request.method === "POST") {
      let body = "";
      for await (const chunk of request) body += chunk;
      response.end();
      answer(JSON.parse(body));
      return;
    }
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    const path = normalize(root + pathname);
    const read = path.startsWith(root) ? readFile(path).catch(() => undefined) : undefined;
    const bytes = pathname === MODEL ? model : await read;
    if (!bytes) response.statusCode = 404;
    response.setHeader("Content-Type", TYPES[extname(path)] ?? "application/octet-stream");
    response.end(bytes ?? "");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const peer = ONNX_MODULE ? `?onnx=/${ONNX_MODULE}&model=${MODEL}` : "";
  return { server, result, url: `http://127.0.0.1:${portOf(server)}/bench/runtimes/page.html${peer}` };
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const port = portOf(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The answer once the server listens. */
async function answerOf(url: string, signal?: AbortSignal): Promise<Response> {
  const either = AbortSignal.any([AbortSignal.timeout(TIMEOUT), ...(signal ? [signal] : [])]);
  for (const end = Date.now() + 10_000; ; ) {
    try {
      return await fetch(url, { signal: either });
    } catch (error) {
      const { cause } = error as { cause?: { code?: string } };
      if (cause?.code !== "ECONNREFUSED" || Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "svdq-runtimes-"));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** What a page or worker sends: an outcome, or its error. */
type Answer = Outcome & { error?: string };

function failed(answer: Answer): Outcome {
  if (answer.error) throw new Error(answer.error);
  return answer;
}
