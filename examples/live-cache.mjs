// A cache that lives compressed: a decoder appends to it and attends to its codes. docs/library.md shows this file.
import { compress, createRuntime, readArchive, writeArchive } from "svdq";
import { openDump } from "svdq/engines/safetensors";

const path = process.argv[2] ?? "live.svdq";
const runtime = await createRuntime();

// A prefix as an archive has it; spans from 32 on are attended to as they lie. Without a prefix,
// runtime.createCache(geometry, { rotary }) begins empty and fits its bases once it holds 580 tokens.
const dump = await openDump("test/fixtures/smollm2-novel.safetensors");
await writeArchive(path, await compress(runtime, dump, { anchorSpan: 256 }));
const cache = runtime.openCache(await readArchive(path));

// The dump's next tokens stand in for what a model computes, all f32: keys and queries after RoPE, values. A model takes
// its layers in turn for each token; here each layer takes all tokens.
const next = await openDump("test/fixtures/smollm2-novel.safetensors", { tokens: dump.heldTokens });
const half = (h) =>
  (h >> 15 ? -1 : 1) * 2 ** (Math.max((h >> 10) & 31, 1) - 25) * ((h & 0x7c00 ? 1024 : 0) + (h & 1023));
const floats = ({ bytes }) => Float32Array.from(new Uint16Array(bytes.buffer), half);
const layout = { tokens: 1, headStride: next.tokenCount * 64, tokenStride: 64 };
const out = new Float32Array(9 * 64); // (query heads, head dim)
for (const layer of [0, 1]) {
  const [keys, values] = [floats(await next.key(layer)), floats(await next.value(layer))];
  const { firstToken, count, bytes } = await next.queryTensor(layer);
  const queries = floats({ bytes });
  for (let position = cache.layerLength(layer); position < next.tokenCount; position++) {
    cache.append(layer, keys.subarray(position * 64), values.subarray(position * 64), layout);
    const own = out.map((_, i) => queries[((i >> 6) * count + position - firstToken) * 64 + (i & 63)]);
    cache.attend(layer, own, out);
  }
}
const { tokens, codedTokens, attended } = cache.stats();
console.log(`${tokens} tokens, ${codedTokens} of them codes; ${attended.calls} calls of attend`);
const branch = cache.fork(); // shares full blocks and bases; both may go on
branch.dispose();
await writeArchive(path, cache.save());
console.log(`saved: ${(await readArchive(path)).tokenCount} tokens`);
cache.dispose();
await Promise.all([dump.close(), next.close()]); // open files, both
