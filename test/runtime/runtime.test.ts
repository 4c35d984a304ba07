import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it, vi } from "vitest";
import { KERNEL_LAYOUT } from "../../src/codec/layout.ts";
import { CapacityError, FormatError, UnsupportedError } from "../../src/errors.ts";
import { KERNEL_NAMES } from "../../src/runtime/kernels.ts";
import { createRuntime as createNodeRuntime } from "../../src/runtime/load/node.ts";
import { createRuntime as createWebRuntime } from "../../src/runtime/load/web.ts";
import { instantiate, type Runtime } from "../../src/runtime/runtime.ts";
import { releaseModule } from "../support/platforms.ts";

const RELEASE = readFileSync("dist/kernels.wasm");

/** A name as a binary holds it: its length, then its letters. */
const encoded = (name: string): Buffer => Buffer.of(name.length, ...Buffer.from(name));

/** The release module with exports renamed, each to a name of the same length. */
function renamed(names: Record<string, string>): WebAssembly.Module {
  const bytes = Buffer.from(RELEASE);
  for (const [from, to] of Object.entries(names)) {
    const at = RELEASE.indexOf(encoded(from));
    expect(at, `the module exports ${from}`).toBeGreaterThan(0);
    encoded(to).copy(bytes, at);
  }
  return new WebAssembly.Module(bytes);
}

const without = (name: string): WebAssembly.Module => renamed({ [name]: `${name.slice(0, -1)}_` });

/** (module), or one with the import given: its encoded kind and type follow the names. */
function moduleOf(...importBytes: [module: string, name: string, ...type: number[]] | []): WebAssembly.Module {
  const [module, name, ...type] = importBytes;
  const header = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0];
  if (module === undefined || name === undefined) return new WebAssembly.Module(Uint8Array.from(header));
  const entry = [1, ...encoded(module), ...encoded(name), ...type];
  return new WebAssembly.Module(Uint8Array.from([...header, 2, entry.length, ...entry]));
}
const FUNCTION = [0, 0];
const MEMORY = [2, 0, 1];

/** The kernels run: bits of 1.5 as a half, widened. */
function expectWorking({ kernels, heap }: Runtime): void {
  heap.scratch((frame) => {
    const [bitsPtr, outPtr] = [frame.reserve(2), frame.reserve(4)];
    heap.u16(bitsPtr, 1)[0] = 0x3e00;
    kernels.widenF16(outPtr, bitsPtr, 1);
    expect(heap.f32(outPtr, 1)[0]).toBe(1.5);
  });
}

describe("instantiate", () => {
  it("takes a ready module, more than once, each time with a memory of its own", async () => {
    const module = releaseModule();
    const [first, second] = [await instantiate(module), await instantiate(module)];
    expectWorking(first);
    expectWorking(second);
    expect(first.heap.memory).not.toBe(second.heap.memory);
  });

  it("passes the options on to the heap", async () => {
    const { heap } = await instantiate(releaseModule(), { maximumBytes: 1 << 20 });
    expect(() => heap.reserve(1 << 20)).toThrow(CapacityError);
  });

  it.each<[string, unknown]>([
    ["bytes", RELEASE],
    ["nothing", undefined],
    ["an instance", new WebAssembly.Instance(moduleOf())],
  ])("refuses %s in place of a module", async (_, module) => {
    const error = await instantiate(module as WebAssembly.Module).catch((e) => e);
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toMatch(/^module: expected a WebAssembly\.Module, got /);
  });

  it.each([
    ["no import", moduleOf(), "expected to import memory env.memory only, got none"],
    ["a foreign import", moduleOf("env", "abort", ...FUNCTION), "memory env.memory only, got function env.abort"],
    ["a function as its memory", moduleOf("env", "memory", ...FUNCTION), "got function env.memory"],
    ["no exports", moduleOf("env", "memory", ...MEMORY), "expected ABI_VERSION 1, got undefined"],
    // Globals swapped for their values: PLANE_BYTES is 16, and the two offsets differ.
    ["another ABI", renamed({ PLANE_BYTES: "ABI_VERSION", ABI_VERSION: "PLANE_BYTES" }), "ABI_VERSION 1, got 16"],
    [
      "another layout",
      renamed({ ROTARY_FREQUENCIES: "ROTARY_INTERLEAVED", ROTARY_INTERLEAVED: "ROTARY_FREQUENCIES" }),
      "expected ROTARY_INTERLEAVED 8, got 16",
    ],
    ["kernels missing", renamed({ encode: "encod_", softmax: "softma_" }), "missing softmax, encode"],
    ["a function for a number", renamed({ BLOCK_TOKENS: "BLOCK_TOKEN_", packPlanes: "packPlane_" }), "BLOCK_TOKENS 32"],
    ["no heap base", without("HEAP_BASE"), "missing HEAP_BASE"],
  ])("refuses a module with %s", async (_, module, message) => {
    const error = await instantiate(module).catch((e) => e);
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain(message);
  });

  it("looks for every number and every kernel of the contract", async () => {
    for (const name of Object.keys(KERNEL_LAYOUT)) {
      await expect(instantiate(without(name)), name).rejects.toThrow(`kernels module: expected ${name}`);
    }
    for (const name of KERNEL_NAMES) {
      await expect(instantiate(without(name)), name).rejects.toThrow(`kernels module: missing ${name}`);
    }
  });

  it("says so where the host has no SIMD", async () => {
    const validate = vi.spyOn(WebAssembly, "validate").mockReturnValue(false);
    try {
      await expect(instantiate(releaseModule())).rejects.toThrow(UnsupportedError);
    } finally {
      validate.mockRestore();
    }
  });
});

describe("createRuntime", () => {
  afterEach(() => vi.unstubAllGlobals());
  const serve = (response: Response) => {
    // A Response made here has no url, and an empty one would say nothing in the message.
    const served = vi.fn(async (url: URL) => Object.defineProperty(response, "url", { value: url.href }));
    vi.stubGlobal("fetch", served);
    return served;
  };

  it.each([
    ["node", createNodeRuntime],
    ["web", createWebRuntime],
  ])("of the %s entry takes a ready module and loads nothing", async (_, createRuntime) => {
    const served = serve(new Response());
    expectWorking(await createRuntime({ module: releaseModule() }));
    expect(served).not.toHaveBeenCalled();
  });

  it.each(["application/wasm", "application/octet-stream"])("fetches kernels.wasm served as %s", async (type) => {
    const served = serve(new Response(RELEASE, { headers: { "content-type": type } }));
    expectWorking(await createWebRuntime());
    expect(served.mock.calls[0][0].pathname).toMatch(/\/kernels\.wasm$/);
  });

  it("says what the server answered", async () => {
    serve(new Response("", { status: 404 }));
    await expect(createWebRuntime()).rejects.toThrow(
      /kernels\.wasm: expected it beside the bundle, got HTTP 404 from file:.*kernels\.wasm/,
    );
  });
});
