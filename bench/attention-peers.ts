/** Peers of attention in place on full f32 rows: plain typed-array JavaScript, and onnxruntime-node where installed. */
import { measure, measureAsync } from "./harness.ts";
import { type AttentionShape, onnxAttention } from "./onnx-attention.ts";

export interface PeerTime {
  peer: string;
  milliseconds: number;
}

export interface DenseRows {
  shape: AttentionShape;
  /** Layers of equal rows to take in turn, so that they come from memory as in a decoder. */
  layers: number;
  /** (kvHeads, tokens, headDim). */
  keys: Float32Array;
  values: Float32Array;
  /** (kvHeads * shared, headDim). */
  queries: Float32Array;
}

export async function peerTimes(rows: DenseRows): Promise<PeerTime[]> {
  const times = [plainJavaScript(rows)];
  const onnx = await onnxRuntime(rows);
  return onnx ? [...times, onnx] : times;
}

function plainJavaScript({ shape, keys, values, queries }: DenseRows): PeerTime {
  const { kvHeads, shared, headDim, tokens } = shape;
  const weights = new Float32Array(tokens);
  const out = new Float32Array(queries.length);
  const scale = 1 / Math.sqrt(headDim);
  const milliseconds = measure(() => {
    for (let q = 0; q < kvHeads * shared; q++) {
      const first = Math.floor(q / shared) * tokens * headDim;
      let top = -Infinity;
      for (let t = 0; t < tokens; t++) {
        let score = 0;
        for (let d = 0; d < headDim; d++) score += queries[q * headDim + d] * keys[first + t * headDim + d];
        weights[t] = score * scale;
        if (weights[t] > top) top = weights[t];
      }
      let sum = 0;
      for (let t = 0; t < tokens; t++) sum += weights[t] = Math.exp(weights[t] - top);
      const row = out.subarray(q * headDim, (q + 1) * headDim).fill(0);
      for (let t = 0; t < tokens; t++) {
        const weight = weights[t] / sum;
        for (let d = 0; d < headDim; d++) row[d] += weight * values[first + t * headDim + d];
      }
    }
  }, 0);
  return { peer: "plain typed-array JavaScript", milliseconds };
}

/** One thread; keys laid out for the product beforehand, which is not timed. */
async function onnxRuntime({ shape, layers, keys, values, queries }: DenseRows): Promise<PeerTime | undefined> {
  const ort = await import(process.env.SVDQ_ONNXRUNTIME ?? "onnxruntime-node").catch(() => undefined);
  if (!ort) return undefined;
  const { kvHeads, shared, headDim, tokens } = shape;
  const session = await ort.InferenceSession.create(onnxAttention(shape), { intraOpNumThreads: 1 });
  const columns = new Float32Array(keys.length);
  for (let h = 0; h < kvHeads; h++) {
    for (let t = 0; t < tokens; t++) {
      for (let d = 0; d < headDim; d++) columns[(h * headDim + d) * tokens + t] = keys[(h * tokens + t) * headDim + d];
    }
  }
  const tensor = (data: Float32Array, dims: number[]) => new ort.Tensor("float32", data, dims);
  const scaled = queries.map((x) => x / Math.sqrt(headDim));
  const feeds = Array.from({ length: layers }, () => ({
    queries: tensor(scaled, [kvHeads, shared, headDim]),
    keys: tensor(columns.slice(), [kvHeads, headDim, tokens]),
    values: tensor(values.slice(), [kvHeads, tokens, headDim]),
  }));
  let turn = 0;
  const run = () => session.run(feeds[turn++ % layers]);
  await run();
  const milliseconds = await measureAsync(run, 10 + layers);
  await session.release();
  return { peer: `onnxruntime-node ${ort.env?.versions?.node ?? ""}, 1 thread`, milliseconds };
}
