/**
 * Peers of attention on codes, on restored f32 rows: plain typed-array JavaScript, and onnxruntime-web (its wasm backend
 * on one thread). Their bits hang on the host, so they have no digest.
 */

/** { shape: { kvHeads, shared, headDim, tokens }, layers: { queries, keys, values }[] } -> all outputs in a row. */
export function attendPlainly({ shape, layers }) {
  const { kvHeads, shared, headDim, tokens } = shape;
  const outputs = [];
  for (const { queries, keys, values } of layers) {
    for (const query of queries) {
      const out = new Float32Array(query.length);
      for (let head = 0; head < kvHeads * shared; head++) {
        const rows = { keys, values, firstRow: Math.floor(head / shared) * tokens, tokens, headDim };
        attendHead(out, query, head * headDim, rows);
      }
      outputs.push(...out);
    }
  }
  return outputs;
}

function attendHead(out, query, at, { keys, values, firstRow, tokens, headDim }) {
  const weights = new Float32Array(tokens);
  let greatest = -Infinity;
  for (let t = 0; t < tokens; t++) {
    const from = (firstRow + t) * headDim;
    let sum = 0;
    for (let d = 0; d < headDim; d++) sum += query[at + d] * keys[from + d];
    weights[t] = sum / Math.sqrt(headDim);
    greatest = Math.max(greatest, weights[t]);
  }
  let total = 0;
  for (let t = 0; t < tokens; t++) {
    weights[t] = Math.exp(weights[t] - greatest);
    total += weights[t];
  }
  for (let t = 0; t < tokens; t++) {
    const from = (firstRow + t) * headDim;
    const weight = weights[t] / total;
    for (let d = 0; d < headDim; d++) out[at + d] += weight * values[from + d];
  }
}

/**
 * { attend, release } on a session that is ready: keys lie as the product wants them and queries are scaled, before any
 * clock. Where the runtime does not start onnxruntime-web, throws an Error whose `notRun` says so.
 */
export async function attendOnnx(onnx, { shape, layers }) {
  const { ort, session } = await startOnnx(onnx);
  const { kvHeads, shared, headDim, tokens } = shape;
  const tensor = (data, dims) => new ort.Tensor("float32", data, dims);
  const feeds = layers.flatMap(({ queries, keys, values }) => {
    const rows = {
      keys: tensor(columnsOf(keys, shape), [kvHeads, headDim, tokens]),
      values: tensor(values.slice(), [kvHeads, tokens, headDim]),
    };
    const scaled = queries.map((query) => query.map((x) => x / Math.sqrt(headDim)));
    return scaled.map((query) => ({ queries: tensor(query, [kvHeads, shared, headDim]), ...rows }));
  });
  const attend = async () => {
    const outputs = [];
    for (const feed of feeds) outputs.push(...(await session.run(feed)).out.data);
    return outputs;
  };
  return { attend, release: () => session.release() };
}

async function startOnnx({ load, model, notRun }) {
  if (notRun) throw Object.assign(new Error(notRun), { notRun });
  try {
    const ort = await load();
    ort.env.wasm.numThreads = 1;
    return { ort, session: await ort.InferenceSession.create(model, { executionProviders: ["wasm"] }) };
  } catch (error) {
    throw Object.assign(error, { notRun: `does not start: ${String(error.message).split("\n")[0]}` });
  }
}

/** (kvHeads, tokens, headDim) -> (kvHeads, headDim, tokens). */
function columnsOf(keys, { kvHeads, headDim, tokens }) {
  const columns = new Float32Array(keys.length);
  for (let h = 0; h < kvHeads; h++) {
    for (let t = 0; t < tokens; t++) {
      for (let d = 0; d < headDim; d++) columns[(h * headDim + d) * tokens + t] = keys[(h * tokens + t) * headDim + d];
    }
  }
  return columns;
}
