/**
 * A pool of equal blocks in linear memory: appending takes one, forgetting gives one back, nothing ever moves.
 * Blocks come in slabs from the heap; a free list hands the last released block out first. A slab without a block in
 * use goes back to the heap.
 */
import { DisposedError } from "../errors.ts";
import { ALIGNMENT, type Heap } from "./heap.ts";

const DEFAULT_SLAB_BLOCKS = 64;

export class BlockPool {
  readonly blockBytes: number;
  readonly #heap: Heap;
  readonly #slabBlocks: number;
  /** Blocks in use of each slab, by its address. */
  readonly #slabs = new Map<number, number>();
  /** Slab of each block in use. */
  readonly #taken = new Map<number, number>();
  #free: { ptr: number; slab: number }[] = [];
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
    return this.#slabs.size * this.#slabBlocks * this.blockBytes;
  }

  /** Address of a block, aligned to 16; its content is undefined. Throws CapacityError before anything changes. */
  take(): number {
    this.#expectAlive();
    if (this.#free.length === 0) this.#addSlab();
    const { ptr, slab } = this.#free.pop() as { ptr: number; slab: number };
    this.#taken.set(ptr, slab);
    this.#slabs.set(slab, (this.#slabs.get(slab) as number) + 1);
    return ptr;
  }

  give(ptr: number): void {
    this.#expectAlive();
    const slab = this.#taken.get(ptr);
    if (slab === undefined) throw new RangeError(`ptr: expected a block taken from this pool, got ${ptr}`);
    this.#taken.delete(ptr);
    const left = (this.#slabs.get(slab) as number) - 1;
    this.#slabs.set(slab, left);
    this.#free.push({ ptr, slab });
    if (left === 0) this.#dropSlab(slab);
  }

  /** Bytes that go back to the heap when these blocks, each in use, are given. */
  bytesFreedBy(blocks: number[]): number {
    const given = new Map<number, number>();
    for (const ptr of blocks) {
      const slab = this.#taken.get(ptr) as number;
      given.set(slab, (given.get(slab) ?? 0) + 1);
    }
    let slabs = 0;
    for (const [slab, count] of given) if (count === this.#slabs.get(slab)) slabs++;
    return slabs * this.#slabBlocks * this.blockBytes;
  }

  /** Releases every slab; blocks still in use are gone. */
  dispose(): void {
    for (const slab of this.#slabs.keys()) this.#heap.release(slab);
    this.#slabs.clear();
    this.#taken.clear();
    this.#free = [];
    this.#disposed = true;
  }

  #expectAlive(): void {
    if (this.#disposed) throw new DisposedError("the block pool was disposed");
  }

  #addSlab(): void {
    const slab = this.#heap.reserve(this.#slabBlocks * this.blockBytes);
    this.#slabs.set(slab, 0);
    for (let i = this.#slabBlocks - 1; i >= 0; i--) this.#free.push({ ptr: slab + i * this.blockBytes, slab });
  }

  #dropSlab(slab: number): void {
    this.#free = this.#free.filter((one) => one.slab !== slab);
    this.#slabs.delete(slab);
    this.#heap.release(slab);
  }
}
