/**
 * Landmarks: the mean key, after RoPE and as coded, of every chunk of 8 tokens (ShadowKV, arXiv 2410.21465). A chunk's
 * mean stands for its tokens when blocks are chosen, which asks for no codes at all: the only way where spans are too
 * short to score on planes. Blocks with a token far from its landmark are outliers and always chosen.
 */
import { BLOCK_TOKENS } from "../codec/layout.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { AttendCall, LayerTokens, Segment } from "./attention.ts";
import type { GroupTokens } from "./group-tokens.ts";
import { reconstructRows } from "./reconstruct.ts";

const CHUNK_TOKENS = 8;
const CHUNKS = BLOCK_TOKENS / CHUNK_TOKENS;
/** Part of the blocks that are outliers, the least cosine between token and landmark first. */
const OUTLIER_PART = 0.01;

export class Landmarks {
  readonly #runtime: Runtime;
  readonly #dim: number;
  #ptr = 0;
  #capacity = 0;
  /** Tokens of the group when last brought up to it. */
  #tokens = -1;
  /** Least cosine of a token to its landmark, a block. */
  #cosines: number[] = [];

  constructor(runtime: Runtime, dim: number) {
    this.#runtime = runtime;
    this.#dim = dim;
  }

  get bytes(): number {
    return 4 * this.#capacity * CHUNKS * this.#dim;
  }

  /** Numbers of the outlier blocks. */
  get outliers(): number[] {
    const count = Math.ceil(this.#cosines.length * OUTLIER_PART);
    const order = this.#cosines.map((_, i) => i).sort((a, b) => this.#cosines[a] - this.#cosines[b] || a - b);
    return order.slice(0, count);
  }

  /** Brings the landmarks up to the full blocks of the group, after tokens were appended or forgotten. */
  update(layer: Pick<LayerTokens, "anchors">, segment: Segment, group: GroupTokens): void {
    if (group.count === this.#tokens) return;
    const { heap } = this.#runtime;
    const blocks = group.blocks.length;
    this.#makeRoom(blocks);
    // The last block may have changed since.
    for (let block = Math.max(0, Math.min(this.#cosines.length, blocks) - 1); block < blocks; block++) {
      heap.scratch((frame) => {
        const rowsPtr = reconstructRows(this.#runtime, frame, layer, segment, group, [block]);
        const tokens = Math.min(BLOCK_TOKENS, group.count - block * BLOCK_TOKENS);
        const rows = heap.f32(rowsPtr, BLOCK_TOKENS * this.#dim);
        const means = heap.f32(this.#ptr + 4 * block * CHUNKS * this.#dim, CHUNKS * this.#dim);
        this.#cosines[block] = this.#describe(rows, means, tokens);
      });
    }
    this.#cosines.length = blocks;
    this.#tokens = group.count;
  }

  /** Forgets the blocks from number `blocks` on. */
  truncate(blocks: number): void {
    this.#cosines.length = Math.min(this.#cosines.length, blocks);
    this.#tokens = -1;
  }

  /** maxima (queries of the group, blocks) f32: the best score of a block's landmarks. */
  maxima(call: AttendCall, group: GroupTokens, maximaPtr: number): void {
    const { runtime, layer, shared, queriesPtr, report } = call;
    const { kernels, heap } = runtime;
    const { firstHead, headCount } = group.model.shape;
    const blocks = group.blocks.length;
    const chunks = Math.ceil(group.count / CHUNK_TOKENS);
    heap.scratch((frame) => {
      const stride = blocks * CHUNKS;
      const scoresPtr = frame.reserve(4 * shared * stride);
      for (let head = 0; head < headCount; head++) {
        const queryPtr = queriesPtr + 4 * (firstHead + head) * shared * layer.headDim;
        const keysPtr = this.#ptr + 4 * head * layer.headDim;
        kernels.scoreRows(scoresPtr, keysPtr, queryPtr, stride, layer.headDim, shared, this.#dim, stride);
        for (let q = 0; q < shared; q++) {
          const scores = heap.f32(scoresPtr + 4 * q * stride, stride).fill(-Infinity, chunks);
          const maxima = heap.f32(maximaPtr + 4 * (head * shared + q) * blocks, blocks);
          for (let i = 0; i < blocks; i++) {
            maxima[i] = Math.max(scores[4 * i], scores[4 * i + 1], scores[4 * i + 2], scores[4 * i + 3]);
          }
        }
      }
    });
    report.scannedKeyBytes += 4 * blocks * CHUNKS * this.#dim;
  }

  dispose(): void {
    if (this.#capacity > 0) this.#runtime.heap.release(this.#ptr);
    this.#capacity = 0;
    this.#cosines = [];
  }

  #makeRoom(blocks: number): void {
    if (blocks <= this.#capacity) return;
    const { heap } = this.#runtime;
    const capacity = Math.max(blocks, Math.ceil(this.#capacity * 1.5));
    const blockBytes = 4 * CHUNKS * this.#dim;
    const ptr = heap.reserve(capacity * blockBytes);
    const used = Math.min(this.#cosines.length, this.#capacity) * blockBytes;
    if (this.#capacity > 0) {
      heap.u8(ptr, used).set(heap.u8(this.#ptr, used));
      heap.release(this.#ptr);
    }
    this.#ptr = ptr;
    this.#capacity = capacity;
  }

  /** Means of the chunks of a block's rows; the least cosine between a row and its mean. Chunks without tokens: zeros. */
  #describe(rows: Float32Array, means: Float32Array, tokens: number): number {
    const dim = this.#dim;
    let least = 1;
    means.fill(0);
    for (let chunk = 0; chunk * CHUNK_TOKENS < tokens; chunk++) {
      const mean = means.subarray(chunk * dim, (chunk + 1) * dim);
      const end = Math.min(tokens, (chunk + 1) * CHUNK_TOKENS);
      const count = end - chunk * CHUNK_TOKENS;
      for (let t = chunk * CHUNK_TOKENS; t < end; t++) {
        for (let d = 0; d < dim; d++) mean[d] += rows[t * dim + d] / count;
      }
      for (let t = chunk * CHUNK_TOKENS; t < end; t++) least = Math.min(least, cosine(rows, t * dim, mean));
    }
    return least;
  }
}

function cosine(rows: Float32Array, at: number, mean: Float32Array): number {
  let [both, a, b] = [0, 0, 0];
  for (let d = 0; d < mean.length; d++) {
    both += rows[at + d] * mean[d];
    a += rows[at + d] ** 2;
    b += mean[d] ** 2;
  }
  return a > 0 && b > 0 ? both / Math.sqrt(a * b) : 1;
}
