/** The built entries load the kernels that lie beside them; `npm test` builds first. */
import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it, vi } from "vitest";

const entry = (name: string): string => new URL(`../../dist/index.${name}.js`, import.meta.url).href;
const wasm = readFileSync(new URL("../../dist/kernels.wasm", import.meta.url));

afterEach(() => vi.unstubAllGlobals());

/** Answers every fetch with the module, and remembers what was asked for. */
function serveKernels(status: number, type: string): string[] {
  const asked: string[] = [];
  vi.stubGlobal("fetch", async (url: URL) => {
    asked.push(url.href);
    return new Response(wasm, { status, headers: { "content-type": type } });
  });
  return asked;
}

describe("entries", () => {
  it("node reads the module beside it, and takes one that is ready", async () => {
    const { createRuntime } = await import(entry("node"));
    const runtime = await createRuntime();
    expect(runtime.heap.bytesInUse).toBe(0);
    const module = new WebAssembly.Module(wasm);
    expect((await createRuntime({ module })).kernels.softmax).toBeTypeOf("function");
  });

  it.each(["application/wasm", "application/octet-stream"])(
    "web fetches the module beside it, served as %s",
    async (type) => {
      const asked = serveKernels(200, type);
      const { createRuntime } = await import(entry("web"));
      expect((await createRuntime()).kernels.softmax).toBeTypeOf("function");
      expect(asked).toHaveLength(1);
      expect(asked[0]).toMatch(/\/dist\/kernels\.wasm$/);
    },
  );

  it("web says which address failed and how", async () => {
    serveKernels(404, "text/html");
    const { createRuntime } = await import(entry("web"));
    await expect(createRuntime()).rejects.toThrow(/kernels\.wasm: .*404/);
  });

  it("workerd takes the module that the bundler gives: its entry imports kernels.wasm", () => {
    const text = readFileSync(new URL(entry("workerd")), "utf8");
    expect(text).toMatch(/from\s*"\.\/kernels\.wasm"/);
  });
});
