/**
 * What all blocks of a head group share, in linear memory: the frozen basis in the forms that coding and attention
 * read, levels, and the pool that its blocks come from. Forks of a cache share models.
 */
import { fitAnalysis } from "../codec/analysis.ts";
import type { Anchors } from "../codec/anchors.ts";
import { basisRows } from "../codec/basis-codes.ts";
import type { CodedGroup } from "../codec/coded.ts";
import { fromHalf } from "../codec/half.ts";
import { countWidths, PLANE_BYTES, planeCount, roundUp, valueBlockBytes, type WidthCounts } from "../codec/layout.ts";
import { normLevels } from "../codec/norms.ts";
import { putF32 } from "../codec/tensors.ts";
import { BlockPool } from "../runtime/blocks.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type ChannelSets, channelSets } from "./channel-sets.ts";
import { mixLevels, partLevels } from "./part-levels.ts";

/** A group without its tokens. */
export type GroupShape = Omit<CodedGroup, "planes" | "stream" | "norms"> & { norms?: { least: number; step: number } };

/** Blocks of about this many bytes are taken from the heap at a time. */
const SLAB_BYTES = 32768;
const MOST_SLAB_BLOCKS = 64;
const slabBlocks = (blockBytes: number): number =>
  Math.max(1, Math.min(MOST_SLAB_BLOCKS, Math.floor(SLAB_BYTES / blockBytes)));

/** Bytes of the slabs that so many blocks take. */
export const slabBytes = (blockBytes: number, blocks: number): number =>
  roundUp(blocks, slabBlocks(blockBytes)) * blockBytes;

export const blockBytesOf = (role: GroupModel["role"], planes: number): number =>
  role === "keys" ? PLANE_BYTES * Math.max(1, planes) : valueBlockBytes(planes);

export class GroupModel {
  readonly shape: GroupShape;
  readonly role: "keys" | "values";
  readonly dim: number;
  readonly headDim: number;
  /** Dimensions of a head in the order of key slices, see `Anchors`; undefined: as they are. */
  readonly order: number[] | undefined;
  readonly channels: number;
  readonly counts: WidthCounts;
  readonly planes: number;
  readonly blockBytes: number;
  readonly pool: BlockPool;
  /** Keys: (parts, 16) f32. Values: (level parts, 32) u8. */
  readonly levelsPtr: number;
  /** Values: the factors of `foldMix`. */
  readonly scalesPtr: number;
  /** Values: (256) f32. */
  readonly normsPtr: number;
  /** (dim, channels) f16 bits: see `putAnalysis`. */
  readonly #analysisPtr: number;
  /** Keys: (dim) f32. */
  readonly centrePtr: number;
  /** Keys: channels as they are scored; none for values. */
  readonly sets: ChannelSets | undefined;
  /** Values: (channels, headDim) f32 a kv head. */
  readonly slicePtrs: number[];
  readonly #runtime: Runtime;
  readonly #reserved: number[] = [];
  readonly #blockUses = new Map<number, number>();
  #bytes = 0;
  #users = 1;

  constructor(runtime: Runtime, shape: GroupShape, { headDim, order }: Pick<Anchors, "headDim" | "order">) {
    this.#runtime = runtime;
    this.shape = shape;
    this.role = shape.centre ? "keys" : "values";
    this.headDim = headDim;
    this.order = order;
    this.dim = shape.headCount * headDim;
    this.channels = shape.books.length;
    this.counts = countWidths(shape.books.map((book) => book.width));
    this.planes = planeCount(this.counts);
    this.blockBytes = blockBytesOf(this.role, this.planes);
    this.pool = new BlockPool(runtime.heap, this.blockBytes, slabBlocks(this.blockBytes));
    try {
      const rows = basisRows(shape.basis, this.dim);
      const levels = partLevels(runtime, shape.books);
      const isKeys = this.role === "keys";
      const centre = isKeys ? Float32Array.from(shape.centre as Uint16Array, fromHalf) : new Float32Array(0);
      const mixed = mixLevels(levels, this.counts);
      this.levelsPtr = this.#put(isKeys ? levels : mixed.bytes);
      this.scalesPtr = isKeys ? 0 : this.#put(mixed.factors);
      this.normsPtr = shape.norms ? this.#put(normLevels(shape.norms)) : 0;
      this.centrePtr = isKeys ? this.#put(centre) : 0;
      this.#analysisPtr = this.#putHalves(fitAnalysis(runtime, rows, this.dim, diagonalRoots(shape, headDim)));
      this.sets = isKeys
        ? channelSets(this.counts, shape.headCount, this.levelsPtr, (head, channels) =>
            this.#put(this.#keySlice(rows, centre, head, channels)),
          )
        : undefined;
      this.slicePtrs = isKeys
        ? []
        : Array.from({ length: shape.headCount }, (_, head) => this.#put(this.#valueSlice(rows, head)));
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Bytes held from the heap, blocks included. */
  get bytes(): number {
    return this.#bytes + this.pool.bytesHeld;
  }

  /** Address of (dim, channels) f32 for `project` of new tokens, which happens once a block: it is held in f16. */
  putAnalysis(frame: Frame): number {
    const count = this.dim * this.channels;
    const ptr = frame.reserve(4 * count);
    this.#runtime.kernels.widenF16(ptr, this.#analysisPtr, count);
    return ptr;
  }

  /** Address of (channels, dim) f32 for `synthesize`. */
  putSynthesis(frame: Frame): number {
    return putF32(this.#runtime.heap, frame, basisRows(this.shape.basis, this.dim));
  }

  share(): this {
    this.#users++;
    return this;
  }

  /** One user less; the last one gives the memory back. */
  release(): void {
    if (--this.#users > 0) return;
    for (const ptr of this.#reserved) this.#runtime.heap.release(ptr);
    this.#reserved.length = 0;
    this.pool.dispose();
  }

  /** Bytes that the heap gets back when these blocks of one user are given back. */
  bytesFreedBy(blocks: number[]): number {
    return this.pool.bytesFreedBy(blocks.filter((ptr) => !this.isShared(ptr)));
  }

  /** Bytes that the heap gets back when one user is gone. */
  get bytesFreedByRelease(): number {
    return this.#users === 1 ? this.bytes : 0;
  }

  /** Address of a block with one user; its content is undefined. */
  takeBlock(): number {
    return this.pool.take();
  }

  shareBlock(ptr: number): void {
    this.#blockUses.set(ptr, (this.#blockUses.get(ptr) ?? 1) + 1);
  }

  isShared(ptr: number): boolean {
    return this.#blockUses.has(ptr);
  }

  giveBlock(ptr: number): void {
    const uses = this.#blockUses.get(ptr) ?? 1;
    if (uses > 2) this.#blockUses.set(ptr, uses - 1);
    else if (uses === 2) this.#blockUses.delete(ptr);
    else this.pool.give(ptr);
  }

  #put(values: Float32Array | Uint8Array): number {
    const ptr = this.#runtime.heap.reserve(values.byteLength);
    this.#reserved.push(ptr);
    this.#bytes += values.byteLength;
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.#runtime.heap.u8(ptr, values.byteLength).set(bytes);
    return ptr;
  }

  #putHalves(values: Float32Array): number {
    const { kernels, heap } = this.#runtime;
    const ptr = heap.reserve(2 * values.length);
    this.#reserved.push(ptr);
    this.#bytes += 2 * values.length;
    heap.scratch((frame) => kernels.narrowF16(ptr, putF32(heap, frame, values), values.length));
    return ptr;
  }

  #keySlice(rows: Float32Array, centre: Float32Array, head: number, channels: number): Float32Array {
    const { headDim, dim, order } = this;
    const columns = channels + 1;
    const slice = new Float32Array(headDim * columns);
    for (let d = 0; d < headDim; d++) {
      const at = head * headDim + (order ? order[d] : d);
      for (let c = 0; c < channels; c++) slice[d * columns + c] = rows[c * dim + at];
      slice[d * columns + channels] = centre[at];
    }
    return slice;
  }

  #valueSlice(rows: Float32Array, head: number): Float32Array {
    const { headDim, channels, dim } = this;
    const slice = new Float32Array(channels * headDim);
    for (let c = 0; c < channels; c++) {
      const at = c * dim + head * headDim;
      slice.set(rows.subarray(at, at + headDim), c * headDim);
    }
    return slice;
  }
}

/**
 * The metric that column scales remember, its diagonal (docs/adr/0010 has what that costs): new tokens are coded by it
 * whether the cache was fitted here or came from an archive.
 */
function diagonalRoots({ basis, headCount }: GroupShape, headDim: number): Float64Array[] | undefined {
  const { columnScales } = basis;
  if (!columnScales) return undefined;
  return Array.from({ length: headCount }, (_, head) => {
    const root = new Float64Array(headDim * headDim);
    for (let d = 0; d < headDim; d++) root[d * (headDim + 1)] = 1 / fromHalf(columnScales[head * headDim + d]);
    return root;
  });
}
