/**
 * `npx tsx demo/worker/measure.ts [--write]`: memory of the isolate with an archive of 25 MB, many range reads at once,
 * time to the first byte, over both storages, on loopback. With --write the table goes to RESULTS.md.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { type CodedCache, compress, createRuntime, encodeArchive, splitByTokens, type TensorData } from "svdq";
import { openDump } from "svdq/engines/safetensors";
import { PrefixClient } from "./client.ts";
import { type IsolateMemory, MemoryProbe } from "./isolate-memory.ts";
import { startLocal } from "./local.ts";

const LAYERS = 30;
const TOKENS = 8448;
const TOKEN = "measure";
const INSPECTOR_PORT = 9339;
const FIXTURE = "test/fixtures/smollm2-novel.safetensors";

/** The fixture's two layers, their tokens over and over, held fifteen times: the size of SmolLM2's whole cache. */
async function largeCache(): Promise<CodedCache> {
  const dump = await openDump(readFileSync(FIXTURE));
  const { kvHeads, headDim } = dump.geometry;
  const longer = ({ type, bytes }: TensorData): TensorData => {
    const rowBytes = bytes.length / kvHeads / dump.tokenCount;
    const out = new Uint8Array(kvHeads * TOKENS * rowBytes);
    for (let head = 0; head < kvHeads; head++) {
      for (let token = 0; token < TOKENS; token++) {
        const from = (head * dump.tokenCount + (token % dump.tokenCount)) * rowBytes;
        out.set(bytes.subarray(from, from + rowBytes), (head * TOKENS + token) * rowBytes);
      }
    }
    return { type, bytes: out };
  };
  const source = {
    ...{ geometry: { layerCount: 2, kvHeads, headDim }, rotary: dump.rotary, tokenCount: TOKENS },
    ...{ layerNumbers: [0, 1], model: dump.model, tokens: Int32Array.from({ length: TOKENS }, (_, i) => i) },
    key: async (layer: number) => longer(await dump.key(layer)),
    value: async (layer: number) => longer(await dump.value(layer)),
  };
  const coded = await compress(await createRuntime(), source, { keyBits: 2, valueBits: 2, anchorSpan: 256 });
  const layers = Array.from({ length: LAYERS }, (_, i) => coded.layers[i % 2]);
  return {
    ...coded,
    layers,
    layerNumbers: layers.map((_, i) => i),
    geometry: { layerCount: LAYERS, kvHeads, headDim },
  };
}

const MB = 1e6;
const mb = (bytes: number): string => (bytes / MB).toFixed(1);
const median = (all: number[]): number => [...all].sort((a, b) => a - b)[all.length >> 1];
const sum = ({ heap, buffers }: IsolateMemory): number => heap + buffers;

interface Row {
  storage: string;
  what: string;
  value: string;
  note: string;
}

async function measure(storage: "r2" | "durable-object", coded: CodedCache): Promise<Row[]> {
  const limits = { tenant: 100_000, stranger: 100 };
  const service = await startLocal({ storage, tokens: { one: TOKEN }, limits, inspectorPort: INSPECTOR_PORT });
  const rows: Row[] = [];
  const row = (what: string, value: string, note = "") => rows.push({ storage, what, value, note });
  try {
    const client = new PrefixClient(service.url, TOKEN);
    await client.stats();
    const probe = await MemoryProbe.open(INSPECTOR_PORT);
    const tokens = coded.tokens!;
    const prefix = { model: "m", tokens, chunks: splitByTokens(coded) };
    const bytes = Buffer.concat(prefix.chunks.map((chunk) => chunk.bytes));
    const archive = { tokenFrom: 0, tokenTo: TOKENS, bytes: Buffer.concat(encodeArchive(coded)) };
    const held = async (what: string, work: () => Promise<unknown>) => {
      const start = performance.now();
      const { peak, samples } = await probe.peakWhile(work);
      const time = `${((performance.now() - start) / 1000).toFixed(2)} s`;
      row(
        `isolate's memory: ${what}`,
        `${mb(sum(peak))} MB`,
        `${mb(peak.heap)} heap + ${mb(peak.buffers)} buffers; ${samples} samples, ${time}`,
      );
    };
    await held("at rest", async () => undefined);
    await held(`put of ${mb(bytes.length)} MB, ${prefix.chunks.length} chunks`, () => client.put(prefix));
    const match = (await client.match("m", tokens))!;
    await held("get of the whole", async () => expectSame(await client.get(match), bytes));
    await held("8 gets at once", () => Promise.all(Array.from({ length: 8 }, () => client.get(match))));
    const queries = new Float32Array(9 * 64).map((_, i) => Math.fround(((i * 37) % 19) / 9.5 - 1));
    await held("attend, layer 0 for the first time", () => client.attend(match.id, 0, queries));
    await held("attend, 4 other layers at once", () =>
      Promise.all([1, 2, 3, 4].map((layer) => client.attend(match.id, layer, queries))),
    );
    const whole = await client.put({ ...prefix, model: "as an archive", chunks: [archive] });
    await held("attend, 4 layers of an archive at once", () =>
      Promise.all([1, 2, 3, 4].map((layer) => client.attend(whole.id, layer, queries))),
    );
    probe.close();
    await timings(row, client, service.url, match, bytes, { tokens, queries });
  } finally {
    await service.dispose();
  }
  return rows;
}

type AddRow = (what: string, value: string, note?: string) => void;

async function timings(
  row: AddRow,
  client: PrefixClient,
  url: string,
  match: { url: string; id: string },
  archive: Uint8Array,
  { tokens, queries }: { tokens: Int32Array; queries: Float32Array },
): Promise<void> {
  const start = performance.now();
  const reads = Array.from({ length: 200 }, async (_, i) => {
    const from = Math.imul(i, 0x9e3779b1) >>> 0;
    const range = { start: from % (archive.length - 65_536), end: (from % (archive.length - 65_536)) + 65_536 };
    expectSame(await client.get(match, range), archive.subarray(range.start, range.end));
  });
  const done = await Promise.allSettled(reads);
  const failed = done.filter(({ status }) => status === "rejected").length;
  row(
    "200 range reads at once, errors",
    String(failed),
    `64 kB each, bytes compared; ${((performance.now() - start) / 1000).toFixed(2)} s in all`,
  );
  row(
    "first byte of a hit, median of 100",
    `${median(await times(100, () => firstByte(url, match.url))).toFixed(1)} ms`,
    "GET of the whole, one after the other",
  );
  row(
    "first byte of a range, median of 100",
    `${median(await times(100, () => firstByte(url, match.url, "bytes=9000000-9065535"))).toFixed(1)} ms`,
    "64 kB",
  );
  row(
    "match, median of 20",
    `${median(await times(20, () => client.match("m", tokens))).toFixed(1)} ms`,
    `${tokens.length} tokens as JSON`,
  );
  row(
    "attend on a layer that is kept, median of 20",
    `${median(await times(20, () => client.attend(match.id, 0, queries))).toFixed(1)} ms`,
    `9 query heads, ${tokens.length} tokens`,
  );
}

async function times(count: number, work: () => Promise<unknown>): Promise<number[]> {
  const all: number[] = [];
  for (let i = 0; i < count + 5; i++) {
    const start = performance.now();
    await work();
    all.push(performance.now() - start);
  }
  // The first ones find cold code.
  return all.slice(5);
}

async function firstByte(url: string, path: string, range?: string): Promise<void> {
  const headers: Record<string, string> = { authorization: `Bearer ${TOKEN}`, ...(range !== undefined && { range }) };
  const response = await fetch(url + path, { headers });
  const reader = response.body!.getReader();
  const { done } = await reader.read();
  if (done) throw new Error("expected bytes, got none");
  // Not a part of what is timed in full, but the connection is to be used again.
  if (range !== undefined) while (!(await reader.read()).done);
  else await reader.cancel();
}

function expectSame(got: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(got, expected) !== 0) throw new Error(`expected ${expected.length} bytes as stored, got others`);
}

const coded = await largeCache();
const rows = [...(await measure("r2", coded)), ...(await measure("durable-object", coded))];
const table = [
  "| storage | what | value | note |",
  "| --- | --- | ---: | --- |",
  ...rows.map((r) => `| ${r.storage} | ${r.what} | ${r.value} | ${r.note} |`),
].join("\n");
console.log(table);

if (process.argv.includes("--write")) {
  const version = (name: string) => JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8")).version;
  writeFileSync(
    join(import.meta.dirname, "RESULTS.md"),
    `# Results

Written by \`npx tsx demo/worker/measure.ts --write\`. A cache of ${LAYERS} layers, ${TOKENS} tokens, keys and
values 2 bits, span 256, uploaded by chunks of tokens. Memory is what V8 says of the worker's isolate (Runtime.getHeapUsage: objects,
and buffers with WebAssembly memory), the most of samples some milliseconds apart; the platform allows 128 MB, which
workerd on one machine does not enforce. With R2 the bytes themselves are in another process, and so they are in
production; a Durable Object may share the worker's isolate. Times are on loopback, on a shared machine.

- Node ${process.version}, miniflare ${version("miniflare")}, workerd ${version("workerd")}, ${cpus()[0].model.trim()}, ${cpus().length} processors

${table}
`,
  );
}
