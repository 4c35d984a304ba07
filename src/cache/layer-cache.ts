/**
 * One layer's tokens: sinks and recent ones exact, the rest coded. Tokens come in exact; once `recent` has overflowed
 * by a block, the oldest are coded on the frozen basis (SVDq, arXiv 2502.15304, section 3.4). A layer without a basis
 * holds all its tokens exact until there are enough to fit one.
 */
import type { CodedCache, CodedLayer } from "../codec/coded.ts";
import type { Geometry } from "../codec/geometry.ts";
import { rowDim } from "../codec/geometry.ts";
import { BLOCK_TOKENS } from "../codec/layout.ts";
import { putRotary, type Rotary } from "../codec/rotary.ts";
import { ELEMENT_BYTES } from "../codec/source.ts";
import { loadTensor, storeTensor } from "../codec/tensors.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type AttendReport, type AttendSettings, attendLayer, type LayerTokens, noReport } from "./attention.ts";
import { ExactRows } from "./exact-rows.ts";
import { fitLayer } from "./fit.ts";
import { GroupTokens } from "./group-tokens.ts";
import type { Landmarks } from "./landmarks.ts";
import { type CacheOptions, codecOptionsOf } from "./options.ts";
import { QueryLog } from "./query-log.ts";

export interface LayerPlace {
  runtime: Runtime;
  geometry: Geometry;
  rotary: Rotary;
  options: CacheOptions;
}

export class LayerCache {
  readonly #place: LayerPlace;
  readonly #sinks: ExactRows;
  readonly #recent: ExactRows;
  readonly #queries: QueryLog;
  #keys: GroupTokens[] = [];
  #values: GroupTokens[] = [];
  #landmarks: Landmarks[] = [];

  constructor(place: LayerPlace) {
    const dim = rowDim(place.geometry);
    this.#place = place;
    this.#sinks = new ExactRows(place.runtime.heap, dim);
    this.#recent = new ExactRows(place.runtime.heap, dim);
    this.#queries = new QueryLog();
  }

  get length(): number {
    return this.#sinks.count + this.codedCount + this.#recent.count;
  }

  get codedCount(): number {
    return this.#keys[0]?.count ?? 0;
  }

  /** True once tokens are coded on a basis. */
  get isFitted(): boolean {
    return this.#keys.length > 0;
  }

  /** Loads a layer of an archive; nothing is decompressed. */
  load(cache: CodedCache, layer: CodedLayer): void {
    const { runtime, geometry } = this.#place;
    const coded = cache.tokenCount - cache.sinks - cache.recent;
    for (const group of layer.keys) this.#keys.push(GroupTokens.load(runtime, group, geometry.headDim, coded));
    for (const group of layer.values) this.#values.push(GroupTokens.load(runtime, group, geometry.headDim, coded));
    runtime.heap.scratch((frame) => {
      const keysPtr = this.#exactTensor(frame, cache, layer.exactKeys);
      const valuesPtr = this.#exactTensor(frame, cache, layer.exactValues);
      this.#gatherIn(this.#sinks, keysPtr, valuesPtr, 0, cache.sinks, cache.sinks + cache.recent);
      this.#gatherIn(this.#recent, keysPtr, valuesPtr, cache.sinks, cache.recent, cache.sinks + cache.recent);
    });
  }

  /** As an archive holds it; `sinks` and `recent` are how many exact tokens there are. */
  toCoded(): { layer: CodedLayer; sinks: number; recent: number } {
    return {
      layer: {
        keys: this.#keys.map((group) => group.toCoded()),
        values: this.#values.map((group) => group.toCoded()),
        exactKeys: this.#exactBytes((rows) => rows.keyPtr(0)),
        exactValues: this.#exactBytes((rows) => rows.valuePtr(0)),
      },
      sinks: this.#sinks.count,
      recent: this.#recent.count,
    };
  }

  /**
   * Takes in `count` tokens, (count, rowDim) f32 each: keys after RoPE, rounded to the exact type. Throws CapacityError
   * with nothing changed.
   */
  append(keysPtr: number, valuesPtr: number, count: number): void {
    const { options, runtime } = this.#place;
    const toSinks = this.isFitted ? 0 : Math.min(count, options.sinks - this.#sinks.count);
    this.#sinks.makeRoom(toSinks);
    this.#recent.makeRoom(count - toSinks);
    const reserved = this.isFitted ? this.#reserveBlocks(this.#recent.count + count) : [];
    const rowBytes = 4 * rowDim(this.#place.geometry);
    this.#sinks.push(keysPtr, valuesPtr, toSinks);
    this.#recent.push(keysPtr + toSinks * rowBytes, valuesPtr + toSinks * rowBytes, count - toSinks);
    if (this.isFitted) this.#codeOverflow(reserved);
    else if (this.#recent.count >= options.fitTokens + options.recent) this.#fit(runtime);
  }

  attend(queriesPtr: number, queryHeads: number, outPtr: number, settings: AttendSettings): AttendReport {
    const { runtime, geometry } = this.#place;
    if (!this.isFitted) this.#queries.add(runtime.heap.f32(queriesPtr, queryHeads * geometry.headDim), this.length - 1);
    const report = noReport();
    const shared = queryHeads / geometry.kvHeads;
    this.#withTokens((layer) => attendLayer({ runtime, layer, queriesPtr, shared, settings, report }, outPtr));
    return report;
  }

  /** Queries (queryHeads, count, headDim) f32 after RoPE of the last tokens, for the metric of a fit to come. */
  noteQueries(queries: Float32Array, queryHeads: number, count: number, firstToken: number): void {
    if (!this.isFitted) this.#queries.addMany(queries, queryHeads, count, firstToken);
  }

  /** Forgets tokens from `length` on. */
  truncate(length: number): void {
    const coded = Math.max(0, Math.min(this.codedCount, length - this.#sinks.count));
    if (coded < this.codedCount) {
      for (const group of [...this.#keys, ...this.#values]) group.truncate(coded);
    }
    this.#recent.truncate(Math.max(0, length - this.#sinks.count - coded));
    this.#sinks.truncate(length);
    this.#queries.truncate(length);
  }

  fork(): LayerCache {
    const copy = new LayerCache(this.#place);
    for (const [mine, theirs] of [
      [this.#sinks, copy.#sinks],
      [this.#recent, copy.#recent],
    ]) {
      theirs.makeRoom(mine.count);
      theirs.push(mine.keyPtr(0), mine.valuePtr(0), mine.count);
    }
    copy.#keys = this.#keys.map((group) => group.fork());
    copy.#values = this.#values.map((group) => group.fork());
    copy.#queries.copyFrom(this.#queries);
    return copy;
  }

  /** Bytes held from the heap; shared blocks and models count in every fork. */
  bytes(): { codes: number; model: number; exact: number } {
    const groups = [...this.#keys, ...this.#values];
    const codes = groups.reduce((sum, { model }) => sum + model.pool.bytesHeld, 0);
    const all = groups.reduce((sum, { model }) => sum + model.bytes, 0);
    return { codes, model: all - codes, exact: this.#sinks.bytes + this.#recent.bytes };
  }

  dispose(): void {
    for (const group of [...this.#keys, ...this.#values]) group.dispose();
    this.#keys = [];
    this.#values = [];
    this.#sinks.dispose();
    this.#recent.dispose();
  }

  #withTokens<T>(work: (tokens: LayerTokens) => T): T {
    const { runtime, geometry, rotary, options } = this.#place;
    return runtime.heap.scratch((frame) =>
      work({
        kvHeads: geometry.kvHeads,
        headDim: geometry.headDim,
        keys: this.#keys,
        values: this.#values,
        landmarks: this.#landmarks,
        sinks: this.#sinks,
        recent: this.#recent,
        codedCount: this.codedCount,
        anchorSpan: options.anchorSpan,
        rotaryPtr: putRotary(runtime.heap, frame, rotary, geometry.headDim),
      }),
    );
  }

  /** Tokens that leave `recent` when it holds `count`: whole blocks, after those that fill the last one. */
  #overflow(count: number): number[] {
    const { recent } = this.#place.options;
    const parts: number[] = [];
    let left = count - recent;
    let room = this.#keys[0].room;
    for (; left >= room; room = BLOCK_TOKENS) {
      parts.push(room);
      left -= room;
    }
    return parts;
  }

  /** A block for every group and part of the overflow to come; none are held after a CapacityError. */
  #reserveBlocks(recentCount: number): number[][] {
    const groups = [...this.#keys, ...this.#values];
    const taken: number[][] = [];
    try {
      for (const _ of this.#overflow(recentCount)) {
        const blocks: number[] = [];
        taken.push(blocks);
        for (const group of groups) blocks.push(group.reserveBlock());
      }
    } catch (error) {
      for (const blocks of taken) for (const [i, ptr] of blocks.entries()) groups[i].model.giveBlock(ptr);
      throw error;
    }
    return taken;
  }

  #codeOverflow(reserved: number[][]): void {
    const groups = [...this.#keys, ...this.#values];
    const parts = this.#overflow(this.#recent.count);
    let first = 0;
    parts.forEach((count, part) => {
      groups.forEach((group, i) => {
        this.#codeRows(group, first, count, reserved[part][i]);
      });
      first += count;
    });
    if (first > 0) this.#recent.dropFirst(first);
  }

  /** Codes `count` rows of `recent` from `first` on. */
  #codeRows(group: GroupTokens, first: number, count: number, block: number): void {
    const { runtime, geometry, rotary, options } = this.#place;
    const { kernels, heap } = runtime;
    const { model } = group;
    const { firstHead, headCount } = model.shape;
    const { kvHeads, headDim } = geometry;
    heap.scratch((frame) => {
      const rowsPtr = frame.reserve(4 * count * model.dim);
      const from = model.role === "keys" ? this.#recent.keyPtr(first) : this.#recent.valuePtr(first);
      kernels.gatherRows(
        rowsPtr,
        from + 4 * firstHead * headDim,
        count,
        headCount,
        headDim,
        headDim,
        kvHeads * headDim,
      );
      if (model.role === "keys" && options.anchorSpan !== null) {
        const turnsPtr = frame.reserve(4 * count);
        const turns = heap.i32(turnsPtr, count);
        for (let i = 0; i < count; i++) {
          const token = group.count + i;
          turns[i] = -(this.#sinks.count + token - (token % options.anchorSpan));
        }
        const rotaryPtr = putRotary(heap, frame, rotary, headDim);
        kernels.rotate(rowsPtr, rowsPtr, turnsPtr, rotaryPtr, count, headCount);
      }
      group.append(rowsPtr, count, block);
    });
  }

  #fit(runtime: Runtime): void {
    const { geometry, rotary, options } = this.#place;
    const coded = this.#recent.count - options.recent;
    const count = coded - (coded % BLOCK_TOKENS);
    const { keys, values } = fitLayer(
      { runtime, geometry, rotary, options: codecOptionsOf(options) }, this.#sinks, this.#recent, count, this.#queries,
    ); // biome-ignore format: one call
    const loaded: GroupTokens[] = [];
    try {
      for (const group of [...keys, ...values]) loaded.push(GroupTokens.load(runtime, group, geometry.headDim, count));
    } catch (error) {
      for (const group of loaded) group.dispose();
      throw error;
    }
    this.#keys = loaded.slice(0, keys.length);
    this.#values = loaded.slice(keys.length);
    this.#recent.dropFirst(count);
    this.#queries.clear();
  }

  /** Address of exact tokens of an archive: (kvHeads, sinks + recent, headDim) f32. */
  #exactTensor(frame: Frame, cache: CodedCache, bytes: Uint8Array): number {
    const count = bytes.length / ELEMENT_BYTES[cache.exactType];
    return loadTensor(this.#place.runtime, frame, "exact tokens", { type: cache.exactType, bytes }, count);
  }

  /** Tokens [first, first + count) of tensors (kvHeads, held, headDim) behind the rows. */
  #gatherIn(rows: ExactRows, keysPtr: number, valuesPtr: number, first: number, count: number, held: number): void {
    const { runtime, geometry } = this.#place;
    const { kvHeads, headDim } = geometry;
    rows.makeRoom(count);
    const from = 4 * first * headDim;
    runtime.kernels.gatherRows(
      rows.keyPtr(rows.count), keysPtr + from, count, kvHeads, headDim, held * headDim, headDim,
    ); // biome-ignore format: in the order of the kernel
    runtime.kernels.gatherRows(
      rows.valuePtr(rows.count), valuesPtr + from, count, kvHeads, headDim, held * headDim, headDim,
    ); // biome-ignore format: in the order of the kernel
    rows.commit(count);
  }

  /** Sinks then recent tokens as tensors (kvHeads, sinks + recent, headDim) in the exact type. */
  #exactBytes(ptrOf: (rows: ExactRows) => number): Uint8Array {
    const { runtime, geometry, options } = this.#place;
    const { kvHeads, headDim } = geometry;
    const held = this.#sinks.count + this.#recent.count;
    return runtime.heap.scratch((frame) => {
      const ptr = frame.reserve(4 * held * kvHeads * headDim);
      let first = 0;
      for (const rows of [this.#sinks, this.#recent]) {
        if (rows.count > 0) {
          runtime.kernels.scatterRows(
            ptr + 4 * first * headDim, ptrOf(rows), rows.count, kvHeads, headDim, held * headDim, headDim,
          ); // biome-ignore format: in the order of the kernel
        }
        first += rows.count;
      }
      return storeTensor(runtime, ptr, held * kvHeads * headDim, options.exactType);
    });
  }
}
