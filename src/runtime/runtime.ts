/** A kernels module, instantiated over a memory that the host owns, with the heap on it. */
import { FormatError, UnsupportedError } from "../errors.ts";
import { DEFAULT_MAXIMUM_BYTES, Heap, type HeapOptions, INITIAL_PAGES } from "./heap.ts";
import { ABI_VERSION, KERNEL_NAMES, type Kernels } from "./kernels.ts";

export interface RuntimeOptions extends HeapOptions {
  /** A compiled kernels module; by default the entry loads `kernels.wasm` that lies beside it. */
  module?: WebAssembly.Module;
}

/** (module (func (result v128) i32.const 0 i8x16.splat)): valid only where SIMD128 is. */
const SIMD_PROBE = Uint8Array.of(
  0,
  97,
  115,
  109,
  1,
  0,
  0,
  0,
  1,
  5,
  1,
  96,
  0,
  1,
  123,
  3,
  2,
  1,
  0,
  10,
  8,
  1,
  6,
  0,
  65,
  0,
  253,
  15,
  11,
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

/** Instantiates a kernels module. Throws UnsupportedError without SIMD, FormatError for a module of another ABI. */
export async function instantiate(module: WebAssembly.Module, options: HeapOptions = {}): Promise<Runtime> {
  if (!simdSupported()) throw new UnsupportedError("this host has no WebAssembly SIMD (128-bit), which svdq needs");
  const memory = createMemory(options.maximumBytes);
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  checkAbi(exports);
  const heapBase = (exports.HEAP_BASE as WebAssembly.Global).value as number;
  return new Runtime(exports as unknown as Kernels, new Heap(memory, heapBase, options));
}

export function createMemory(maximumBytes = DEFAULT_MAXIMUM_BYTES): WebAssembly.Memory {
  const maximum = Math.max(INITIAL_PAGES, Math.min(65535, Math.floor(maximumBytes / 65536)));
  return new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum });
}

function checkAbi(exports: WebAssembly.Exports): void {
  const version = (exports.ABI_VERSION as WebAssembly.Global | undefined)?.value;
  if (version !== ABI_VERSION) {
    throw new FormatError(`kernels module: expected ABI version ${ABI_VERSION}, got ${String(version)}`);
  }
  const missing = KERNEL_NAMES.filter((name) => typeof exports[name] !== "function");
  if (missing.length) throw new FormatError(`kernels module: missing ${missing.join(", ")}`);
}
