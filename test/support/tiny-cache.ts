/** A small cache made up on the spot: low rank plus noise, as real ones are, keys turned by RoPE, queries if wanted. */
import { fromHalf, toHalf } from "../../src/codec/half.ts";
import { frequenciesOf, type Rotary, type RotaryLayout } from "../../src/codec/rotary.ts";
import type { CacheSource, ElementType, QueryData, TensorData } from "../../src/codec/source.ts";
import { noise } from "./noise.ts";

export interface TinyCacheOptions {
  layers?: number;
  kvHeads?: number;
  headDim?: number;
  tokens?: number;
  type?: ElementType;
  layout?: RotaryLayout;
  /** Rotary pairs; headDim / 2 unless given. */
  pairs?: number;
  /** Directions that carry nearly everything; their strength falls by half from one to the next. */
  rank?: number;
  /** Standard deviation of what lies outside them, beside 1 for the strongest. */
  noise?: number;
  /** Queries a query head, two query heads a kv head; 0 for none. */
  queries?: number;
  /** First dimensions of a head that queries look at 30 times as much as at others; 0 for none. */
  focus?: number;
  /** Token ids. */
  ids?: boolean;
  seed?: number;
}

/** Elements of a tensor as f32: what the engine meant. */
export function elementsOf({ type, bytes }: TensorData): Float32Array {
  const copy = bytes.slice();
  if (type === "f32") return new Float32Array(copy.buffer);
  const bits = new Uint16Array(copy.buffer);
  if (type === "f16") return Float32Array.from(bits, fromHalf);
  return new Float32Array(Uint32Array.from(bits, (x) => x << 16).buffer);
}

/** Little-endian bytes of the elements nearest to `values`, as far as bf16 goes: cut off. */
export function tensorOf(type: ElementType, values: Float32Array): TensorData {
  const bits = new Uint32Array(values.slice().buffer);
  if (type === "f32") return { type, bytes: new Uint8Array(bits.buffer) };
  const short = type === "f16" ? Uint16Array.from(values, toHalf) : Uint16Array.from(bits, (x) => x >>> 16);
  return { type, bytes: new Uint8Array(short.buffer) };
}

/** Turns row (headDim) at `at` by `turns` positions in place: RoPE as papers write it. */
export function turn(row: Float32Array, at: number, turns: number, { layout, frequencies }: Rotary): void {
  const pairs = frequencies.length;
  for (let i = 0; i < pairs; i++) {
    const [first, second] = layout === "interleaved" ? [at + 2 * i, at + 2 * i + 1] : [at + i, at + i + pairs];
    const [cos, sin] = [Math.cos(turns * frequencies[i]), Math.sin(turns * frequencies[i])];
    const [a, b] = [row[first], row[second]];
    row[first] = a * cos - b * sin;
    row[second] = b * cos + a * sin;
  }
}

interface Layer {
  key: TensorData;
  value: TensorData;
  query: QueryData | undefined;
}

/** Two layers of 2 kv heads, 100 tokens and head dim 32 in f16 unless said; change `layers` as you like. */
export class TinyCache implements CacheSource {
  readonly geometry: { layerCount: number; kvHeads: number; headDim: number };
  readonly rotary: Rotary;
  readonly tokenCount: number;
  readonly layerNumbers: number[];
  readonly model = "tiny";
  readonly tokens?: Int32Array;
  readonly layers: Layer[];

  constructor(options: TinyCacheOptions = {}) {
    const { layers = 2, kvHeads = 2, headDim = 32, tokens = 100, layout = "half-split" } = options;
    this.geometry = { layerCount: layers, kvHeads, headDim };
    this.rotary = { layout, frequencies: frequenciesOf(10000, options.pairs ?? headDim / 2) };
    this.tokenCount = tokens;
    this.layerNumbers = Array.from({ length: layers }, (_, i) => 3 * i + 1);
    if (options.ids ?? true) this.tokens = Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % 50000);
    this.layers = this.layerNumbers.map((_, i) => this.#layer(options, 1000 * (options.seed ?? 1) + 10 * i));
  }

  key = async (layer: number): Promise<TensorData> => this.layers[layer].key;
  value = async (layer: number): Promise<TensorData> => this.layers[layer].value;
  query = async (layer: number): Promise<QueryData | undefined> => this.layers[layer].query;

  #layer(options: TinyCacheOptions, seed: number): Layer {
    const { type = "f16", queries = 0, focus = 0 } = options;
    const { kvHeads, headDim } = this.geometry;
    const tokens = this.tokenCount;
    const key = tensorOf(type, this.#turned(lowRank(options, kvHeads, headDim, tokens, seed, 2), 0, tokens));
    const rows = lowRank(options, kvHeads, headDim, tokens, seed + 5, 0);
    // Sizes of values differ from token to token.
    const sizes = noise(tokens, seed + 6).map((x) => 0.2 + x * x);
    const value = tensorOf(
      type,
      rows.map((x, i) => x * sizes[Math.floor(i / headDim) % tokens]),
    );
    if (queries === 0) return { key, value, query: undefined };
    const queryHeads = 2 * kvHeads;
    const firstToken = tokens - queries;
    const looks = lowRank({ ...options, noise: 0.5 }, queryHeads, headDim, queries, seed + 7, 0).map((x, i) =>
      i % headDim < focus ? 30 * x : x,
    );
    const data = tensorOf(type, this.#turned(looks, firstToken, queries));
    return { key, value, query: { ...data, queryHeads, count: queries, firstToken } };
  }

  /** (heads, count, headDim) at positions first, first + 1, … */
  #turned(rows: Float32Array, first: number, count: number): Float32Array {
    const { headDim } = this.geometry;
    for (let row = 0; row * headDim < rows.length; row++) {
      turn(rows, row * headDim, first + (row % count), this.rotary);
    }
    return rows;
  }
}

/** (heads, count, headDim): a mean of size `mean`, `rank` directions over all heads, noise. */
function lowRank(
  { rank = 6, noise: rest = 0.02 }: TinyCacheOptions,
  heads: number,
  headDim: number,
  count: number,
  seed: number,
  mean: number,
): Float32Array {
  const dim = heads * headDim;
  const means = noise(dim, seed + 1);
  const directions = noise(rank * dim, seed + 2);
  const latents = noise(rank * count, seed + 3);
  const others = noise(dim * count, seed + 4);
  const rows = new Float32Array(dim * count);
  for (let token = 0; token < count; token++) {
    for (let d = 0; d < dim; d++) {
      let x = mean * means[d] + Math.sqrt(3) * rest * others[token * dim + d];
      for (let r = 0; r < rank; r++) x += 2 ** -r * latents[r * count + token] * directions[r * dim + d];
      rows[(Math.floor(d / headDim) * count + token) * headDim + (d % headDim)] = x;
    }
  }
  return rows;
}

/** Squared error over square. */
export function relativeError(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [error, square] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    error += (got[i] - expected[i]) ** 2;
    square += expected[i] ** 2;
  }
  return error / square;
}
