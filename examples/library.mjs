// The package from Node: a cache that a program holds goes to one file and comes back. docs/library.md shows this file.
import { bitsOf, bytesOf, compress, createRuntime, frequenciesOf, readArchive, restoreLayer, writeArchive } from "svdq";
import { openDump } from "svdq/engines/safetensors";

const path = process.argv[2] ?? "library.svdq";
const runtime = await createRuntime();

// A cache saved as safetensors (docs/glossary.md, "dump"); an open file, to be closed when all is read …
const dump = await openDump("test/fixtures/smollm2-novel.safetensors");

// … or any object like it: keys after RoPE and values, (kvHeads, tokenCount, headDim), asked for a layer at a time.
const source = {
  geometry: { layerCount: 1, kvHeads: 3, headDim: 64 },
  rotary: { layout: "half-split", frequencies: frequenciesOf(100_000, 32) },
  tokenCount: dump.tokenCount,
  layerNumbers: [5],
  model: "SmolLM2-135M-Instruct",
  key: () => dump.key(0), // { type: "f32" | "f16" | "bf16", bytes: Uint8Array }
  value: () => dump.value(0),
};

const cache = await compress(runtime, source, { keyBits: 1.25, valueBits: 2 });
await writeArchive(path, cache);
const { bits, bitsWithBasis } = bitsOf(bytesOf(cache).keys, cache);
console.log(`keys: ${bits.toFixed(2)} bits an element, ${bitsWithBasis.toFixed(2)} with the basis`);

const again = await readArchive(path); // every byte checked, or a FormatError
const { key, value } = restoreLayer(runtime, again, 0, "f16"); // Uint8Array each, for the engine's tensors
console.log(`layer ${again.layerNumbers[0]}: ${key.length} + ${value.length} bytes of f16`);
await dump.close();
