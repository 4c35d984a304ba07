/**
 * The mean value of a segment's coded tokens. It stands for what a budget leaves out, with the weight that those tokens
 * would get together, as in SparQ Attention (arXiv 2312.04985, section 4); docs/adr/0045 has what that is worth.
 */
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { LayerTokens, Segment } from "./attention.ts";
import { sumValues } from "./mix.ts";

/** Blocks that are summed together, so that the same tokens have the same mean however they came. */
const CHUNK_BLOCKS = 64;

export class ValueMeans {
  /** Sums (kvHeads, headDim) of as many full blocks. */
  readonly #chunks: { blocks: number; sums: Float32Array }[] = [];
  #mean: Float32Array = new Float32Array(0);

  /** (kvHeads, headDim) over all full blocks; undefined where there are none. */
  get mean(): Float32Array | undefined {
    return this.#chunks.length > 0 ? this.#mean : undefined;
  }

  /** Brings the mean up to the full blocks of the segment. */
  update(runtime: Runtime, layer: LayerTokens, segment: Segment): void {
    const full = Math.floor(segment.values[0].count / BLOCK_TOKENS);
    let isOld = this.#mean.length === 0;
    for (let first = 0, i = 0; first < full; first += CHUNK_BLOCKS, i++) {
      const blocks = Math.min(CHUNK_BLOCKS, full - first);
      if (this.#chunks[i]?.blocks === blocks) continue;
      this.#chunks[i] = { blocks, sums: sumValues(runtime, layer, segment, first, blocks) };
      isOld = true;
    }
    if (isOld && full > 0) this.#mean = this.#meanOf(layer.kvHeads * layer.headDim, full * BLOCK_TOKENS);
  }

  /** Forgets what depends on blocks from number `blocks` on. */
  truncate(blocks: number): void {
    this.#chunks.length = Math.min(this.#chunks.length, Math.floor(blocks / CHUNK_BLOCKS));
    this.#mean = new Float32Array(0);
  }

  #meanOf(dim: number, tokens: number): Float32Array {
    const total = new Float64Array(dim);
    for (const { sums } of this.#chunks) for (let d = 0; d < dim; d++) total[d] += sums[d];
    return Float32Array.from(total, (sum) => sum / tokens);
  }
}
