/**
 * A key-value cache that lives compressed: append, attend, forget, without ever writing the full keys back. Per layer;
 * every layer takes the same tokens.
 */
import { anchorsOf, describeSpan, spanFor } from "../codec/anchors.ts";
import type { CodedCache } from "../codec/coded.ts";
import { checkGeometry, type Geometry, rowDim } from "../codec/geometry.ts";
import { checkRotary, putRotary, type Rotary } from "../codec/rotary.ts";
import {
  DisposedError,
  expectInteger,
  expectNumber,
  expectOptions,
  MismatchError,
  UnsupportedError,
} from "../errors.ts";
import type { Frame } from "../runtime/heap.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type AttendReport, type AttendSettings, noReport } from "./attention.ts";
import { LayerCache, type LayerPlace } from "./layer-cache.ts";
import { type CacheOptions, checkCacheOptions } from "./options.ts";

/** Where an element (head, token, d) of a caller's array lies: head * headStride + token * tokenStride + d. */
export interface RowLayout {
  tokens: number;
  /** Elements; default headDim, so that a token's heads lie side by side. */
  headStride?: number;
  /** Elements; default kvHeads * headDim. */
  tokenStride?: number;
  /** True where keys come before RoPE; they are then rotated by their positions. Default false: as engines cache them. */
  beforeRotary?: boolean;
}

export interface CacheStats {
  /** Tokens held by layer 0. */
  tokens: number;
  /** Of layer 0: layers code their blocks at different tokens. */
  codedTokens: number;
  /**
   * Bytes held from linear memory: slabs of blocks; bases, levels and landmarks; exact tokens and the monitor's samples.
   * Forks count what they share.
   */
  bytes: { codes: number; model: number; exact: number; total: number };
  /** Bits an element of all tokens, everything counted. */
  bitsPerElement: number;
  /** Sums over all calls of `attend`. */
  attended: AttendReport & { calls: number };
}

export class KvCache {
  readonly geometry: Geometry;
  readonly rotary: Rotary;
  readonly options: CacheOptions;
  readonly model: string;
  readonly #runtime: Runtime;
  readonly #layers: LayerCache[];
  readonly #layerNumbers: number[];
  readonly #attended = { ...noReport(), calls: 0 };
  /** Ids of all tokens, where the archive had them and nothing was appended since. */
  #tokens: Int32Array | undefined;
  #disposed = false;

  private constructor(place: LayerPlace, model: string, layerNumbers: number[], layers: LayerCache[]) {
    this.geometry = place.geometry;
    this.rotary = place.rotary;
    this.options = place.options;
    this.model = model;
    this.#runtime = place.runtime;
    this.#layerNumbers = layerNumbers;
    this.#layers = layers;
  }

  /** An empty cache: tokens are exact until `fitTokens` of a layer are there to fit its basis. */
  static create(runtime: Runtime, geometry: Geometry, rotary: Rotary, given: Partial<CacheOptions> = {}): KvCache {
    const place = placeOf(runtime, geometry, rotary, given);
    const numbers = Array.from({ length: geometry.layerCount }, (_, i) => i);
    const layers = numbers.map((number) => new LayerCache(place, number));
    return new KvCache(place, "", numbers, layers);
  }

  /** A live cache from a compressed one, codes taken as they are. Throws CapacityError with nothing held. */
  static open(runtime: Runtime, coded: CodedCache, given: Partial<CacheOptions> = {}): KvCache {
    return KvCache.#load(runtime, coded, { recent: coded.recent, ...given }, true);
  }

  /** An empty cache on the bases of a profile (`createProfile`): tokens are coded from the first block on. */
  static fromProfile(runtime: Runtime, profile: CodedCache, given: Partial<CacheOptions> = {}): KvCache {
    return KvCache.#load(runtime, profile, given, false);
  }

  static #load(runtime: Runtime, coded: CodedCache, given: Partial<CacheOptions>, keepTokens: boolean): KvCache {
    const { geometry, rotary, anchorSpan, exactType } = coded;
    const isByHead = coded.layers.every((layer) => layer.keys.length === geometry.kvHeads);
    // One kv head is a layer and a head.
    const grouping = geometry.kvHeads === 1 ? (given.grouping ?? "layer") : isByHead ? "head" : "layer";
    const fixed = { anchorSpan, exactType, grouping, ...(keepTokens && { sinks: coded.sinks }) } as const;
    const { anchorSpan: span } = given;
    expectFixed(fixed, span ? { ...given, anchorSpan: spanFor(span, rotary) } : given);
    const place = placeOf(runtime, geometry, rotary, { ...given, ...fixed });
    const layers: LayerCache[] = [];
    try {
      coded.layers.forEach((layer, i) => {
        const cache = new LayerCache(place, i);
        layers.push(cache);
        cache.load(coded, layer, keepTokens);
      });
    } catch (error) {
      for (const layer of layers) layer.dispose();
      throw error;
    }
    const cache = new KvCache(place, coded.model, coded.layerNumbers, layers);
    if (keepTokens) cache.#tokens = coded.tokens?.slice();
    return cache;
  }

  /** Tokens that every layer holds. */
  get length(): number {
    return this.#layers.reduce((least, layer) => Math.min(least, layer.length), Infinity);
  }

  /** Tokens of one layer. */
  layerLength(layer: number): number {
    return this.#layer(layer).length;
  }

  /** Tokens of one layer that lie in codes: those behind `options.sinks` exact ones. */
  codedLength(layer: number): number {
    return this.#layer(layer).codedCount;
  }

  /**
   * Appends tokens to one layer. keys and values: f32 elements as `layout` says. Throws RangeError for arrays too short
   * or not finite, CapacityError at the memory limit; nothing has changed in the layer then.
   */
  append(layer: number, keys: Float32Array, values: Float32Array, layout: RowLayout): void {
    const target = this.#layer(layer);
    expectOptions("layout", layout, ["tokens", "headStride", "tokenStride", "beforeRotary"]);
    const { tokens } = layout;
    expectInteger("layout.tokens", tokens, 0, 2 ** 24);
    if (tokens === 0) return;
    this.#runtime.heap.scratch((frame) => {
      const keysPtr = this.#rowsIn(frame, `layer ${layer} keys`, keys, layout);
      const valuesPtr = this.#rowsIn(frame, `layer ${layer} values`, values, layout);
      if (layout.beforeRotary) this.#rotate(frame, keysPtr, tokens, target.length);
      this.#round(frame, `layer ${layer} keys`, keysPtr, tokens * rowDim(this.geometry));
      this.#round(frame, `layer ${layer} values`, valuesPtr, tokens * rowDim(this.geometry));
      target.append(keysPtr, valuesPtr, tokens);
      this.#tokens = undefined;
    });
    if (layer === this.#layers.length - 1) this.#workOn(tokens);
    if (this.options.targetBytes !== null) this.shrink(this.options.targetBytes);
  }

  /**
   * Lowers the precision of old tokens, a step at a time and evenly over layers, until the cache holds at most `bytes`.
   * Returns the bytes held then, which may be more where nothing is left to lower.
   */
  shrink(bytes: number): number {
    this.#expectAlive();
    expectNumber("bytes", bytes, 0, 2 ** 53);
    for (;;) {
      const held = this.stats().bytes.total;
      if (held <= bytes) return held;
      // The layer that holds most goes first, so that all stay alike.
      const order = [...this.#layers].sort((a, b) => codeBytes(b) - codeBytes(a));
      if (!order.some((layer) => layer.lowerPrecision())) return held;
    }
  }

  /**
   * Outputs of one layer's queries on all its tokens: queries (queryHeads, headDim) f32 after RoPE, into out of the same
   * shape. `position`, if given, is only checked. Throws RangeError for wrong sizes, queries that are not finite, a
   * position before the last token, or an empty layer.
   */
  attend(layer: number, queries: Float32Array, out: Float32Array, position?: number): AttendReport {
    const target = this.#layer(layer);
    const shared = this.#sharedOf(queries);
    expectF32("out", out);
    if (out.length !== queries.length) {
      throw new RangeError(`out: expected ${queries.length} elements as queries has, got ${out.length}`);
    }
    if (target.length === 0) throw new RangeError(`layer ${layer}: expected at least 1 token to attend to, got none`);
    expectInteger("position", position ?? target.length - 1, target.length - 1, 2 ** 31 - 1);
    const { heap } = this.#runtime;
    return heap.scratch((frame) => {
      const [queriesPtr, outPtr] = [this.#queriesIn(frame, queries), frame.reserve(4 * queries.length)];
      const report = target.attend({ queriesPtr, shared, settings: this.#settings(target) }, outPtr);
      out.set(heap.f32(outPtr, queries.length));
      this.#count(report);
      return report;
    });
  }

  /**
   * What `attend` of these queries would weigh: scores q·k / sqrt(headDim) on codes, (queryHeads, tokens of the layer),
   * by position; -Infinity where the budget leaves a token out. Into out, or a new array. Nothing is counted.
   */
  scores(layer: number, queries: Float32Array, out?: Float32Array): Float32Array {
    const target = this.#layer(layer);
    const shared = this.#sharedOf(queries);
    const count = shared * this.geometry.kvHeads * target.length;
    if (out) expectF32("out", out);
    if (out && out.length !== count) throw new RangeError(`out: expected ${count} elements, got ${out.length}`);
    const scores = out ?? new Float32Array(count);
    this.#runtime.heap.scratch((frame) => {
      const queriesPtr = this.#queriesIn(frame, queries);
      target.scores({ queriesPtr, shared, settings: this.#settings(target) }, scores);
    });
    return scores;
  }

  /** Queries (queryHeads, count, headDim) f32 after RoPE of a prefill, from which a coming fit takes its metric. */
  noteQueries(layer: number, queries: Float32Array, queryHeads: number, firstToken: number): void {
    const { headDim, kvHeads } = this.geometry;
    const target = this.#layer(layer);
    expectF32("queries", queries);
    expectInteger("queryHeads", queryHeads, kvHeads, 1024);
    if (queryHeads % kvHeads !== 0) {
      throw new RangeError(`queryHeads: expected a multiple of ${kvHeads}, got ${queryHeads}`);
    }
    const count = queries.length / queryHeads / headDim;
    if (!Number.isInteger(count)) {
      throw new RangeError(
        `queries: expected a multiple of ${queryHeads} x ${headDim} elements, got ${queries.length}`,
      );
    }
    expectInteger("firstToken", firstToken, 0, 2 ** 31 - 1);
    this.#runtime.heap.scratch((frame) => this.#queriesIn(frame, queries));
    target.noteQueries(queries, queryHeads, count, firstToken);
  }

  /**
   * Finishes fits that are under way; otherwise they take a step with every token appended to the last layer. Throws
   * CapacityError where memory does not last; no token is lost then.
   */
  settle(): void {
    this.#expectAlive();
    for (const layer of this.#layers) layer.settle();
  }

  /** Forgets tokens from `length` on, in every layer. */
  truncate(length: number): void {
    this.#expectAlive();
    expectInteger("length", length, 0, this.length);
    for (const layer of this.#layers) layer.truncate(length);
    this.#tokens = this.#tokens?.slice(0, length);
  }

  /** A cache with the same tokens: full blocks and bases are shared, what changes is copied. */
  fork(): KvCache {
    this.#expectAlive();
    const layers: LayerCache[] = [];
    try {
      for (const layer of this.#layers) layers.push(layer.fork());
    } catch (error) {
      for (const layer of layers) layer.dispose();
      throw error;
    }
    const place = placeOf(this.#runtime, this.geometry, this.rotary, this.options);
    const copy = new KvCache(place, this.model, this.#layerNumbers, layers);
    copy.#tokens = this.#tokens;
    return copy;
  }

  /**
   * As an archive holds it, once layers have coded what they hold back for their turn. Throws RangeError where layers do
   * not hold the same tokens, coded alike, UnsupportedError where one has no basis.
   */
  save(): CodedCache {
    this.#expectAlive();
    for (const layer of this.#layers) layer.catchUp();
    const saved = this.#layers.map((layer) => layer.toCoded());
    const { sinks, recent } = saved[0];
    const tokenCount = this.#layers[0].length;
    saved.forEach((layer, i) => {
      const { length } = this.#layers[i];
      if (length !== tokenCount) {
        throw new RangeError(`layer ${i}: expected ${tokenCount} tokens as layer 0 has, got ${length}`);
      }
      if (layer.sinks === sinks && layer.recent === recent) return;
      const got = `${layer.sinks} and ${layer.recent}`;
      throw new UnsupportedError(
        `layer ${i}: expected ${sinks} sinks and ${recent} recent tokens as layer 0 has, got ${got}`,
      );
    });
    const { geometry, rotary, options, model } = this;
    return {
      geometry, rotary, model, tokenCount, sinks, recent, layerNumbers: this.#layerNumbers,
      exactType: options.exactType, anchorSpan: options.anchorSpan, layers: saved.map(({ layer }) => layer),
      ...(this.#tokens && { tokens: this.#tokens.slice() }),
    }; // biome-ignore format: in the order of CodedCache
  }

  stats(): CacheStats {
    this.#expectAlive();
    const bytes = { codes: 0, model: 0, exact: 0, total: 0 };
    for (const layer of this.#layers) {
      const mine = layer.bytes();
      bytes.codes += mine.codes;
      bytes.model += mine.model;
      bytes.exact += mine.exact;
    }
    bytes.total = bytes.codes + bytes.model + bytes.exact;
    const tokens = this.#layers[0].length;
    const elements = 2 * this.geometry.layerCount * tokens * rowDim(this.geometry);
    return {
      tokens,
      codedTokens: this.#layers[0].codedCount,
      bytes,
      bitsPerElement: elements > 0 ? (8 * bytes.total) / elements : 0,
      attended: { ...this.#attended },
    };
  }

  dispose(): void {
    if (this.#disposed) return;
    for (const layer of this.#layers) layer.dispose();
    this.#disposed = true;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #expectAlive(): void {
    if (this.#disposed) throw new DisposedError("cache: expected one in use, got one disposed before");
  }

  /** Steps of fits under way, one layer after the other: a token waits for one step, whatever the number of layers. */
  #workOn(steps: number): void {
    for (let step = 0; step < steps; step++) {
      const busy = this.#layers.find((layer) => layer.isWorking);
      if (!busy) return;
      busy.work();
    }
  }

  #layer(layer: number): LayerCache {
    this.#expectAlive();
    return this.#layers[expectInteger("layer", layer, 0, this.#layers.length - 1)];
  }

  /** Query heads a kv head. */
  #sharedOf(queries: Float32Array): number {
    expectF32("queries", queries);
    const { headDim, kvHeads } = this.geometry;
    const shared = queries.length / headDim / kvHeads;
    if (!Number.isInteger(shared) || shared === 0) {
      throw new RangeError(`queries: expected a multiple of ${kvHeads} x ${headDim} elements, got ${queries.length}`);
    }
    return shared;
  }

  /** Address of a caller's queries, checked. */
  #queriesIn(frame: Frame, queries: Float32Array): number {
    const { kernels, heap } = this.#runtime;
    const ptr = frame.reserve(4 * queries.length);
    heap.f32(ptr, queries.length).set(queries);
    const bad = kernels.countNonFinite(ptr, queries.length);
    if (bad) throw new RangeError(`queries: expected finite elements, got ${bad} of NaN or infinity`);
    return ptr;
  }

  #settings(layer: LayerCache): AttendSettings {
    const { scoreStep, mixTolerance, budget, selection } = this.options;
    const budgetTokens = budget === null ? undefined : Math.ceil(budget < 1 ? budget * layer.codedCount : budget);
    return { scoreStep, mixTolerance, budgetTokens, selection };
  }

  #count(report: AttendReport): void {
    const sum = this.#attended;
    sum.calls++;
    for (const key of Object.keys(report) as (keyof AttendReport)[]) {
      sum[key] = key === "leftOutWeight" ? Math.max(sum[key], report[key]) : sum[key] + report[key];
    }
  }

  /** Address of (tokens, kvHeads * headDim) f32 of a caller's array, checked. */
  #rowsIn(frame: Frame, name: string, array: Float32Array, layout: RowLayout): number {
    const { kvHeads, headDim } = this.geometry;
    const { tokens, headStride = headDim, tokenStride = kvHeads * headDim } = layout;
    expectInteger("layout.headStride", headStride, headDim, 2 ** 30);
    expectInteger("layout.tokenStride", tokenStride, headDim, 2 ** 30);
    const needed = (kvHeads - 1) * headStride + (tokens - 1) * tokenStride + headDim;
    expectF32(name, array);
    if (array.length < needed) {
      throw new RangeError(`${name}: expected at least ${needed} elements, got ${array.length}`);
    }
    const { kernels, heap } = this.#runtime;
    const count = tokens * kvHeads * headDim;
    const rowsPtr = frame.reserve(4 * count);
    const rows = heap.f32(rowsPtr, count);
    for (let t = 0, at = 0; t < tokens; t++) {
      for (let h = 0; h < kvHeads; h++, at += headDim) {
        const from = h * headStride + t * tokenStride;
        rows.set(array.subarray(from, from + headDim), at);
      }
    }
    const bad = kernels.countNonFinite(rowsPtr, count);
    if (bad) throw new RangeError(`${name}: expected finite elements, got ${bad} of NaN or infinity`);
    return rowsPtr;
  }

  #rotate(frame: Frame, keysPtr: number, tokens: number, first: number): void {
    const { kernels, heap } = this.#runtime;
    const turnsPtr = frame.reserve(4 * tokens);
    const turns = heap.i32(turnsPtr, tokens);
    for (let i = 0; i < tokens; i++) turns[i] = first + i;
    const rotaryPtr = putRotary(heap, frame, this.rotary, this.geometry.headDim);
    kernels.rotate(keysPtr, keysPtr, turnsPtr, rotaryPtr, tokens, this.geometry.kvHeads);
  }

  /** To the exact type and back, so that what is attended to is what an archive will hold. */
  #round(frame: Frame, name: string, ptr: number, count: number): void {
    const { kernels, heap } = this.#runtime;
    const { exactType } = this.options;
    if (exactType === "f16") {
      const bitsPtr = frame.reserve(2 * count);
      kernels.narrowF16(bitsPtr, ptr, count);
      kernels.widenF16(ptr, bitsPtr, count);
    } else if (exactType === "bf16") {
      const bits = heap.u32(ptr, count);
      for (let i = 0; i < count; i++) bits[i] = (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) & 0xffff0000;
    }
    const bad = kernels.countNonFinite(ptr, count);
    if (bad) throw new RangeError(`${name}: expected elements that ${exactType} can hold, got ${bad} too large`);
  }
}

function placeOf(runtime: Runtime, geometry: Geometry, rotary: Rotary, given: Partial<CacheOptions>): LayerPlace {
  const options = checkCacheOptions(given);
  checkGeometry(geometry);
  checkRotary(rotary, geometry.headDim);
  options.anchorSpan = spanFor(options.anchorSpan, rotary);
  const anchors = anchorsOf(options.anchorSpan, rotary, geometry.headDim);
  return { runtime, geometry, rotary, anchors, options };
}

/** By name: an array of another realm is one too. */
function expectF32(name: string, array: unknown): void {
  const kind = Object.prototype.toString.call(array).slice(8, -1);
  if (kind !== "Float32Array") throw new TypeError(`${name}: expected a Float32Array, got ${kind}`);
}

/** What an archive or a profile is made for must not be asked to be otherwise. */
function expectFixed(fixed: Partial<CacheOptions>, given: Partial<CacheOptions>): void {
  for (const [name, value] of Object.entries(fixed)) {
    const wanted = given[name as keyof CacheOptions];
    if (wanted === undefined || JSON.stringify(wanted) === JSON.stringify(value)) continue;
    throw new MismatchError(`${name}: expected ${shown(value)} as the archive has, got ${shown(wanted)}`);
  }
}

const shown = (value: unknown): string => (Array.isArray(value) ? describeSpan(value) : String(value));

const codeBytes = (layer: LayerCache): number => layer.bytes().codes;
