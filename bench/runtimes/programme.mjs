/**
 * The fixed work that every runtime does with the built package: compress a real cache, restore it, carry it in and out
 * of an archive, the same at its entropy, grow a cache from nothing, append to one, attend with and without a budget. Each step gives bytes,
 * whose digest must be the same everywhere, and a time.
 */

/** Positions of the continuation that are attended from; the first ones of what the fixture holds. */
const POSITIONS = 60;
const REPETITIONS = 5;
const BUDGET = 1 / 8;
const SPAN = 256;

/**
 * svdq: the package's names; openDump: of svdq/engines/safetensors; fixture: a dump's bytes; now: milliseconds, of a
 * clock that runs. Gives { digests: { step: SHA-256 }, milliseconds: { step: best of some } }.
 */
export async function runProgramme({ svdq, openDump, runtime, fixture, now }) {
  const digests = {};
  const milliseconds = {};
  const step = async (name, work, repetitions = REPETITIONS) => {
    let best = Infinity;
    let result;
    for (let i = 0; i < repetitions; i++) {
      const start = now();
      result = await work();
      best = Math.min(best, now() - start);
    }
    digests[name] = await digestOf(result.bytes);
    milliseconds[name] = best;
    return result.value;
  };

  const prefix = await openDump(fixture);
  const continuation = await tokensBehind(openDump, fixture, prefix);
  const coded = await step(
    "compress",
    async () => {
      const value = await svdq.compress(runtime, prefix, { anchorSpan: SPAN });
      return { value, bytes: svdq.encodeArchive(value) };
    },
    2,
  );
  const archive = await step("archive out", () => {
    const bytes = svdq.encodeArchive(coded);
    return { value: joined(bytes), bytes };
  });
  const opened = await step("archive in", () => {
    const value = svdq.decodeArchive(archive);
    return { value, bytes: svdq.encodeArchive(value) };
  });
  const rows = await step("restore", () => {
    const value = opened.layers.map((_, layer) => svdq.restoreLayer(runtime, opened, layer, "f32"));
    return { value, bytes: value.flatMap(({ key, value }) => [key, value]) };
  });
  const smaller = await step(
    "compress at entropy",
    async () => {
      const value = svdq.encodeArchive(await svdq.compress(runtime, prefix, { anchorSpan: SPAN, entropy: true }));
      return { value: joined(value), bytes: value };
    },
    2,
  );
  await step("restore at entropy", () => {
    const value = svdq.decodeArchive(smaller);
    const layers = value.layers.map((_, layer) => svdq.restoreLayer(runtime, value, layer, "f16"));
    return { bytes: layers.flatMap(({ key, value }) => [key, value]) };
  });
  await step(
    "grow",
    () => {
      const cache = runtime.createCache(opened.geometry, { rotary: opened.rotary, anchorSpan: SPAN });
      appendRows(cache, rows, opened);
      cache.settle();
      const out = attendAll(cache, continuation);
      cache.dispose();
      return { bytes: [out] };
    },
    2,
  );
  const cache = runtime.openCache(opened);
  await step(
    "append",
    () => {
      for (let i = 0; i < POSITIONS; i++) appendToken(cache, continuation, i);
      return { bytes: svdq.encodeArchive(cache.save()) };
    },
    1,
  );
  await step("attend", () => ({ bytes: [attendAll(cache, continuation)] }));
  const budgeted = runtime.openCache(opened, { budget: BUDGET });
  await step("attend to a part", () => ({ bytes: [attendAll(budgeted, continuation)] }));
  await step("plain JavaScript attend", () => ({ bytes: [attendPlainly(rows, opened, continuation)] }));
  cache.dispose();
  budgeted.dispose();
  return { digests: { ...digests, "plain JavaScript attend": undefined }, milliseconds };
}

/** Keys and values after the prefix, (layers) of (kvHeads, tokens, headDim), and queries of its positions. */
async function tokensBehind(openDump, fixture, prefix) {
  const dump = await openDump(fixture, { tokens: prefix.heldTokens });
  const { headDim, layerCount } = dump.geometry;
  const layers = [];
  for (let layer = 0; layer < layerCount; layer++) {
    const query = await dump.queryTensor(layer);
    layers.push({
      keys: floats(await dump.key(layer)),
      values: floats(await dump.value(layer)),
      queries: queriesOf(query, headDim, prefix.tokenCount),
    });
  }
  return { layers, first: prefix.tokenCount, stride: dump.tokenCount * headDim, headDim };
}

/** (POSITIONS) of (queryHeads, headDim). */
function queriesOf(query, headDim, from) {
  const all = floats(query);
  return Array.from({ length: POSITIONS }, (_, i) => {
    const out = new Float32Array(query.queryHeads * headDim);
    for (let head = 0; head < query.queryHeads; head++) {
      const at = (head * query.count + from + i - query.firstToken) * headDim;
      out.set(all.subarray(at, at + headDim), head * headDim);
    }
    return out;
  });
}

/** f16 bits to numbers, by products of powers of two: the same everywhere. */
const floats = ({ bytes }) =>
  Float32Array.from(
    new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2),
    (h) => (h >> 15 ? -1 : 1) * 2 ** (Math.max((h >> 10) & 31, 1) - 25) * ((h & 0x7c00 ? 1024 : 0) + (h & 1023)),
  );

const viewOf = (bytes) => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);

function appendRows(cache, rows, { geometry, tokenCount }) {
  const layout = { tokens: tokenCount, headStride: tokenCount * geometry.headDim, tokenStride: geometry.headDim };
  for (const [layer, { key, value }] of rows.entries()) cache.append(layer, viewOf(key), viewOf(value), layout);
}

function appendToken(cache, { layers, first, stride, headDim }, i) {
  const at = (first + i) * headDim;
  const layout = { tokens: 1, headStride: stride, tokenStride: headDim };
  for (const [layer, { keys, values }] of layers.entries()) {
    cache.append(layer, keys.subarray(at), values.subarray(at), layout);
  }
}

/** Outputs of all positions and layers, one behind the other. */
function attendAll(cache, { layers }) {
  const outputs = [];
  for (const [layer, { queries }] of layers.entries()) {
    for (const query of queries) {
      const out = new Float32Array(query.length);
      cache.attend(layer, query, out);
      outputs.push(...out);
    }
  }
  return new Uint8Array(Float32Array.from(outputs).buffer);
}

/** The peer: attention on restored f32 rows in plain typed-array JavaScript. Its bits hang on the host's Math.exp. */
function attendPlainly(rows, { geometry, tokenCount }, { layers }) {
  const { kvHeads, headDim } = geometry;
  const outputs = [];
  for (const [layer, { queries }] of layers.entries()) {
    const [keys, values] = [viewOf(rows[layer].key), viewOf(rows[layer].value)];
    for (const query of queries) {
      const out = new Float32Array(query.length);
      const shared = query.length / headDim / kvHeads;
      for (let head = 0; head < kvHeads * shared; head++) {
        attendHead(
          out,
          query,
          keys,
          values,
          head * headDim,
          Math.floor(head / shared) * tokenCount,
          tokenCount,
          headDim,
        );
      }
      outputs.push(...out);
    }
  }
  return new Uint8Array(Float32Array.from(outputs).buffer);
}

function attendHead(out, query, keys, values, at, firstRow, tokenCount, headDim) {
  const weights = new Float32Array(tokenCount);
  let greatest = -Infinity;
  for (let t = 0; t < tokenCount; t++) {
    const from = (firstRow + t) * headDim;
    let sum = 0;
    for (let d = 0; d < headDim; d++) sum += query[at + d] * keys[from + d];
    weights[t] = sum / Math.sqrt(headDim);
    greatest = Math.max(greatest, weights[t]);
  }
  let total = 0;
  for (let t = 0; t < tokenCount; t++) {
    weights[t] = Math.exp(weights[t] - greatest);
    total += weights[t];
  }
  for (let t = 0; t < tokenCount; t++) {
    const from = (firstRow + t) * headDim;
    const weight = weights[t] / total;
    for (let d = 0; d < headDim; d++) out[at + d] += weight * values[from + d];
  }
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

async function digestOf(parts) {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", joined(parts)));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
