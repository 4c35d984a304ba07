/**
 * A pool of equal blocks in linear memory: appending takes one, forgetting gives one back, nothing ever moves.
 * Blocks come in slabs from the heap; a free list hands the last released block out first.
 */
import { DisposedError } from "../errors.ts";
import { ALIGNMENT, type Heap } from "./heap.ts";

const DEFAULT_SLAB_BLOCKS = 64;

export class BlockPool {
  readonly blockBytes: number;
  readonly #heap: Heap;
  readonly #slabBlocks: number;
  readonly #slabs: number[] = [];
  readonly #free: number[] = [];
  readonly #taken = new Set<number>();
  #disposed = false;

  constructor(heap: Heap, blockBytes: number, slabBlocks = DEFAULT_SLAB_BLOCKS) {
    if (!Number.isInteger(blockBytes) || blockBytes <= 0 || blockBytes % ALIGNMENT !== 0) {
      throw new RangeError(`blockBytes: expected a positive multiple of ${ALIGNMENT}, got ${blockBytes}`);
    }
    this.#heap = heap;
    this.#slabBlocks = slabBlocks;
    this.blockBytes = blockBytes;
  }

  get blocksInUse(): number {
    return this.#taken.size;
  }

  /** Bytes held from the heap, free blocks included. */
  get bytesHeld(): number {
    return this.#slabs.length * this.#slabBlocks * this.blockBytes;
  }

  /** Address of a block, aligned to 16; its content is undefined. Throws CapacityError before anything changes. */
  take(): number {
    this.#expectAlive();
    if (this.#free.length === 0) this.#addSlab();
    const ptr = this.#free.pop() as number;
    this.#taken.add(ptr);
    return ptr;
  }

  give(ptr: number): void {
    this.#expectAlive();
    if (!this.#taken.delete(ptr)) throw new RangeError(`ptr: expected a block taken from this pool, got ${ptr}`);
    this.#free.push(ptr);
  }

  /** Releases every slab; blocks still in use are gone. */
  dispose(): void {
    for (const slab of this.#slabs) this.#heap.release(slab);
    this.#slabs.length = this.#free.length = 0;
    this.#taken.clear();
    this.#disposed = true;
  }

  #expectAlive(): void {
    if (this.#disposed) throw new DisposedError("the block pool was disposed");
  }

  #addSlab(): void {
    const slab = this.#heap.reserve(this.#slabBlocks * this.blockBytes);
    this.#slabs.push(slab);
    for (let i = this.#slabBlocks - 1; i >= 0; i--) this.#free.push(slab + i * this.blockBytes);
  }
}
