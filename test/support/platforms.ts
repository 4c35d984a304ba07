/**
 * The three implementations that every kernel suite runs over: the TypeScript twins, the debug module (asserts,
 * loaded with @assemblyscript/loader for readable aborts) and the release module.
 */
import { readFileSync } from "node:fs";
import { instantiate as instantiateDebug } from "@assemblyscript/loader";
import { createReferenceKernels } from "../../src/reference/index.ts";
import { Heap, type HeapOptions } from "../../src/runtime/heap.ts";
import type { Kernels } from "../../src/runtime/kernels.ts";
import { createMemory, instantiate, Runtime } from "../../src/runtime/runtime.ts";

export const releaseModule = (): WebAssembly.Module => new WebAssembly.Module(readFileSync("dist/kernels.wasm"));

const TEST_MODES: HeapOptions = { growOnReserve: true, poison: true };

export interface Platform {
  name: "reference" | "debug" | "release";
  create(options?: HeapOptions): Promise<Runtime>;
}

export const PLATFORMS: Platform[] = [
  {
    name: "reference",
    async create(options = TEST_MODES) {
      const memory = createMemory();
      return new Runtime(createReferenceKernels(memory), new Heap(memory, 1024, options));
    },
  },
  {
    name: "debug",
    async create(options = TEST_MODES) {
      const memory = createMemory();
      const { exports } = await instantiateDebug(readFileSync("build/kernels.debug.wasm"), { env: { memory } });
      const heapBase = (exports.HEAP_BASE as unknown as WebAssembly.Global).value as number;
      return new Runtime(exports as unknown as Kernels, new Heap(memory, heapBase, options));
    },
  },
  { name: "release", create: (options = TEST_MODES) => instantiate(releaseModule(), options) },
];

/** Sizes that every kernel meets: empty, tails, one and several whole SIMD iterations. */
export const SIZES = [0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 257];
