/** A kernels module, instantiated over a memory that the host owns, with the heap on it. */
import { KERNEL_LAYOUT } from "../codec/layout.ts";
import { FormatError, UnsupportedError } from "../errors.ts";
import { DEFAULT_MAXIMUM_BYTES, Heap, type HeapOptions, INITIAL_PAGES } from "./heap.ts";
import { ABI_VERSION, KERNEL_NAMES, type Kernels } from "./kernels.ts";

export interface RuntimeOptions extends HeapOptions {
  /** A compiled kernels module; by default the entry loads `kernels.wasm` that lies beside it. */
  module?: WebAssembly.Module;
}

/** (module (func (result v128) i32.const 0 i8x16.splat)): valid only where SIMD128 is. */
// biome-ignore format: a section a line
const SIMD_PROBE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, // magic, version
  1, 5, 1, 96, 0, 1, 123, // types: () -> v128
  3, 2, 1, 0, // functions
  10, 8, 1, 6, 0, 65, 0, 253, 15, 11, // code
);

export const simdSupported = (): boolean => WebAssembly.validate(SIMD_PROBE);

export class Runtime {
  readonly kernels: Kernels;
  readonly heap: Heap;

  constructor(kernels: Kernels, heap: Heap) {
    this.kernels = kernels;
    this.heap = heap;
  }
}

/**
 * Instantiates a kernels module. Throws UnsupportedError without SIMD, TypeError for anything but a compiled module,
 * FormatError for a module that is not one of kernels, or is of another ABI or layout.
 */
export async function instantiate(module: WebAssembly.Module, options: HeapOptions = {}): Promise<Runtime> {
  if (!simdSupported()) throw new UnsupportedError("this host has no WebAssembly SIMD (128-bit), which svdq needs");
  checkImports(module);
  const memory = createMemory(options.maximumBytes);
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  checkAbi(exports);
  return new Runtime(
    exports as unknown as Kernels,
    new Heap(memory, globalOf(exports, "HEAP_BASE") as number, options),
  );
}

export function createMemory(maximumBytes = DEFAULT_MAXIMUM_BYTES): WebAssembly.Memory {
  const maximum = Math.max(INITIAL_PAGES, Math.min(65535, Math.floor(maximumBytes / 65536)));
  return new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum });
}

/** Before instantiation, because that runs a module's start function and reports a foreign import in its own words. */
function checkImports(module: WebAssembly.Module): void {
  const kind = Object.prototype.toString.call(module);
  if (kind !== "[object WebAssembly.Module]") throw new TypeError(`module: expected a WebAssembly.Module, got ${kind}`);
  const imports = WebAssembly.Module.imports(module).map((one) => `${one.kind} ${one.module}.${one.name}`);
  if (imports.join() !== "memory env.memory") {
    throw new FormatError(
      `kernels module: expected to import memory env.memory only, got ${imports.join(", ") || "none"}`,
    );
  }
}

function checkAbi(exports: WebAssembly.Exports): void {
  for (const [name, expected] of Object.entries({ ABI_VERSION, ...KERNEL_LAYOUT })) {
    const value = globalOf(exports, name);
    if (value !== expected) throw new FormatError(`kernels module: expected ${name} ${expected}, got ${String(value)}`);
  }
  const missing: string[] = KERNEL_NAMES.filter((name) => typeof exports[name] !== "function");
  if (typeof globalOf(exports, "HEAP_BASE") !== "number") missing.push("HEAP_BASE");
  if (missing.length) throw new FormatError(`kernels module: missing ${missing.join(", ")}`);
}

/** Value of an exported global, undefined where there is none. */
const globalOf = (exports: WebAssembly.Exports, name: string): unknown => {
  const global = exports[name];
  return typeof global === "object" && "value" in global ? global.value : undefined;
};
