// A store of prefixes: the longest one that a prompt begins with, found by its tokens.
import { readFile } from "node:fs/promises";
import { compress, createRuntime, decodeArchive, writeArchive } from "svdq";
import { openDump } from "svdq/engines/safetensors";
import { PrefixStore } from "svdq/store";
import { FileStore } from "svdq/store/fs";

const path = process.argv[2] ?? "prefix.svdq";
const runtime = await createRuntime();
const dump = await openDump("test/fixtures/smollm2-novel.safetensors");
const { model } = dump;
await writeArchive(path, await compress(runtime, dump));

const store = new PrefixStore(new FileStore(`${path}.store`), { budgetBytes: 2e9 });
const tokens = dump.tokens;
const chunks = [{ tokenFrom: 0, tokenTo: tokens.length, bytes: await readFile(path) }];
await store.put({ model, tokens, chunks, ttlSeconds: 86_400 });

// Another process, a prompt that goes on after the prefix: what is held needs no prefill.
const prompt = Int32Array.of(...tokens, 42, 43, 44);
const found = await store.match({ model, tokens: prompt });
const { bytes } = await store.read(found.id);
const cache = decodeArchive(new Uint8Array(await new Response(bytes).arrayBuffer()));
console.log(`${found.tokenCount} of ${prompt.length} tokens are held, ${cache.layers.length} layers`);
await dump.close();
