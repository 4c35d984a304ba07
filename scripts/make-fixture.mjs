// Cuts the fixture of the demo and the tests out of a full dump:
//
//   node scripts/make-fixture.mjs smollm2-novel.safetensors test/fixtures/smollm2-novel.safetensors
//
// The first tokens of two layers with the queries that the dump holds for them, bytes as they are: what is left is a
// shorter real cache. The dump's queries begin at token 1,536, so most of its context must stay.
import { openSafetensors, writeSafetensors } from "../dist/engines/safetensors.js";

const LAYERS = [5, 20];
const CONTEXT_TOKENS = 1664;
const CONTINUATION_TOKENS = 64;

const [from, to] = process.argv.slice(2);
if (!to) throw new Error("expected two paths: the dump to read and the fixture to write");
const file = await openSafetensors(from);
const held = CONTEXT_TOKENS + CONTINUATION_TOKENS;
const queryCount = held - Number(file.metadata.query_first_token);

/** The first `count` rows of each head of a tensor (heads, rows, headDim) F16. */
function head(name, count) {
  const [heads, rows, headDim] = file.tensors.get(name).shape;
  const rowBytes = 2 * headDim;
  const read = async () => {
    const bytes = await file.read(name);
    const out = new Uint8Array(heads * count * rowBytes);
    for (let h = 0; h < heads; h++) {
      out.set(bytes.subarray(h * rows * rowBytes, (h * rows + count) * rowBytes), h * count * rowBytes);
    }
    return out;
  };
  return { name, dtype: "F16", shape: [heads, count, headDim], read };
}

const tokens = {
  name: "tokens",
  dtype: "I32",
  shape: [held],
  read: async () => (await file.read("tokens")).slice(0, 4 * held),
};
const tensors = LAYERS.flatMap((n) => [
  head(`layers.${n}.key`, held),
  head(`layers.${n}.value`, held),
  head(`layers.${n}.query`, queryCount),
]);
const { continuation_nll: _, ...metadata } = file.metadata; // of the whole continuation, which is cut
const sorted = Object.entries({
  ...metadata,
  stored_layers: LAYERS.join(","),
  context_tokens: String(CONTEXT_TOKENS),
  continuation_tokens: String(CONTINUATION_TOKENS),
}).sort(([a], [b]) => (a < b ? -1 : 1));
await writeSafetensors(to, Object.fromEntries(sorted), [tokens, ...tensors]);
await file.close();
