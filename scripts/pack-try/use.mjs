// What a user does with the package: a cache grows, goes into an archive, opens again and attends.
import { createRuntime, decodeArchive, encodeArchive, frequenciesOf } from "svdq";
import { parseLlamaState } from "svdq/engines/llama-cpp";
import { createReferenceKernels } from "svdq/reference";
import { MemoryStore } from "svdq/store";

export async function use() {
  const runtime = await createRuntime();
  const rotary = { layout: "half-split", frequencies: frequenciesOf(10000, 16) };
  const cache = runtime.createCache({ layerCount: 1, kvHeads: 1, headDim: 32 }, { rotary, fitTokens: 64 });
  const rows = new Float32Array(200 * 32).map((_, i) => ((i * 7919) % 101) / 50 - 1);
  cache.append(0, rows, rows, { tokens: 200 });
  cache.settle();
  const again = runtime.openCache(decodeArchive(await new Blob(encodeArchive(cache.save())).arrayBuffer()));
  const out = new Float32Array(32);
  again.attend(0, rows.subarray(0, 32), out);
  const names = [parseLlamaState, MemoryStore, createReferenceKernels].map((x) => typeof x);
  return [again.length, ...names, out.every(Number.isFinite) && out.some((x) => x !== 0)].join(" ");
}
