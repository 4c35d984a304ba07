/**
 * The fixed work that every runtime does with the built package: compress a real cache, restore it, carry it in and out
 * of an archive, the same at its entropy, grow a cache from nothing, append to one, attend with and without a budget.
 * Each step gives bytes, whose digest must be the same everywhere, and a time. Peers on the same rows have a time alone.
 */
import { attendOnnx, attendPlainly } from "./peers.mjs";

/** Positions of the continuation that are attended from; the first ones of what the fixture holds. */
const POSITIONS = 60;
const REPETITIONS = 5;
const BUDGET = 1 / 8;
const SPAN = 256;

/**
 * svdq: the package's names; openDump: of svdq/engines/safetensors; fixture: a dump's bytes; now: milliseconds, of a
 * clock that runs; onnx: { load, model } gives onnxruntime-web and the bytes of bench/onnx-attention.ts, or { notRun }
 * says why there is none. Gives { digests: { step: SHA-256 }, milliseconds: { step or peer: best of some },
 * notRun: { peer: reason } }.
 */
export async function runProgramme({ svdq, openDump, runtime, fixture, now, onnx }) {
  const digests = {};
  const milliseconds = {};
  const notRun = {};
  const timed = async (name, work, repetitions = REPETITIONS) => {
    let best = Infinity;
    let result;
    for (let i = 0; i < repetitions; i++) {
      const start = now();
      result = await work();
      best = Math.min(best, now() - start);
    }
    milliseconds[name] = best;
    return result;
  };
  const step = async (name, work, repetitions) => {
    const { value, bytes } = await timed(name, work, repetitions);
    digests[name] = await digestOf(bytes);
    return value;
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
  cache.dispose();
  budgeted.dispose();

  const dense = denseRows(rows, opened, continuation);
  const expected = await timed("plain JavaScript attend", () => attendPlainly(dense));
  try {
    const peer = await attendOnnx(onnx, dense);
    expectClose(await timed("onnxruntime-web attend", peer.attend), expected);
    await peer.release();
  } catch (error) {
    if (!error.notRun) throw error;
    notRun["onnxruntime-web attend"] = error.notRun;
  }
  return { digests, milliseconds, notRun };
}

/** What the peers attend on: f32 rows of the prefix, (kvHeads, tokens, headDim) a layer, and the queries. */
function denseRows(rows, { geometry, tokenCount }, { layers }) {
  const { kvHeads, headDim } = geometry;
  return {
    shape: { kvHeads, headDim, tokens: tokenCount, shared: layers[0].queries[0].length / headDim / kvHeads },
    layers: layers.map(({ queries }, i) => ({ queries, keys: viewOf(rows[i].key), values: viewOf(rows[i].value) })),
  };
}

/** Peers that do not do the same work are no peers. */
function expectClose(outputs, expected) {
  const worst = expected.reduce((most, x, i) => Math.max(most, Math.abs(x - outputs[i])), 0);
  if (outputs.length !== expected.length || !(worst < 1e-4)) {
    throw new Error(`onnxruntime-web: expected the outputs of plain JavaScript, got ${worst} off`);
  }
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
