/**
 * `svdq compress` and `restore` as whole processes, start-up included, on a dump of 8 layers x 2,048 tokens where one
 * is at hand (SVDQ_DUMP, or shared data beside the repository), else on the fixture. Node's gzip of the same keys and
 * values in f16 is the peer: what a program without a codec would do. Both best of RUNS.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { openDump, writeSafetensors } from "../src/engines/safetensors.ts";
import { type BenchRow, row } from "./harness.ts";

const DUMPS = [
  process.env.SVDQ_DUMP ?? "",
  "../shared/data/smollm2-novel.safetensors",
  "test/fixtures/smollm2-novel.safetensors",
];
const RUNS = 3;

/** Run before the program: says at its end the most memory that it held. ru_maxrss counts the parent's too on Linux. */
const WITNESS = `
import { readFileSync, writeSync } from "node:fs";
process.on("exit", () => {
  let kilobytes = process.resourceUsage().maxRSS;
  try {
    kilobytes = Number(readFileSync("/proc/self/status", "utf8").match(/VmHWM:\\s*(\\d+) kB/)[1]);
  } catch {}
  writeSync(2, "resident " + kilobytes);
});`;

/** Copies a file through a stream of zlib: node -e … SCRIPT from to. */
const ZLIB = `
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import zlib from "node:zlib";
const [make, from, to] = process.argv.slice(1);
await pipeline(createReadStream(from), zlib[make](), createWriteStream(to));`;

interface Run {
  milliseconds: number;
  /** Most memory resident, 10^6 bytes. */
  megabytes: number;
}

/** Best time and least memory of RUNS runs of a Node process. */
function run(...args: string[]): Run {
  const best = { milliseconds: Infinity, megabytes: Infinity };
  for (let i = 0; i < RUNS; i++) {
    const before = performance.now();
    const witness = `data:text/javascript,${encodeURIComponent(WITNESS)}`;
    const { status, stderr } = spawnSync(process.execPath, ["--import", witness, ...args], { encoding: "utf8" });
    const milliseconds = performance.now() - before;
    if (status !== 0) throw new Error(`${args.join(" ")}: expected exit code 0, got ${status}: ${stderr}`);
    const kilobytes = Number(stderr.match(/resident (\d+)/)?.[1]);
    best.milliseconds = Math.min(best.milliseconds, milliseconds);
    best.megabytes = Math.min(best.megabytes, (kilobytes * 1024) / 1e6);
  }
  return best;
}

const zlib = (make: string, from: string, to: string): Run =>
  run("--input-type=module", "-e", ZLIB, "--", make, from, to);

/** The keys and values that `compress` takes from a dump, as they are: no queries, no continuation. */
async function writeContext(path: string, from: string): Promise<void> {
  const dump = await openDump(from);
  const shape = [dump.geometry.kvHeads, dump.tokenCount, dump.geometry.headDim];
  const tensors = dump.layerNumbers.flatMap((n, layer) =>
    (["key", "value"] as const).map((part) => ({
      name: `layers.${n}.${part}`,
      dtype: "F16" as const,
      shape,
      read: async () => (await dump[part](layer)).bytes,
    })),
  );
  await writeSafetensors(path, {}, tensors);
  await dump.close();
}

export default async function (): Promise<BenchRow[]> {
  const dump = DUMPS.find((path) => path && existsSync(path)) as string;
  const folder = mkdtempSync(join(tmpdir(), "svdq-bench-"));
  const at = (name: string): string => join(folder, name);
  try {
    await writeContext(at("context"), dump);
    const compressed = run("dist/cli.js", "compress", dump, "-o", at("archive.svdq"));
    const restored = run("dist/cli.js", "restore", at("archive.svdq"), "-o", at("restored"));
    const packed = zlib("createGzip", at("context"), at("packed"));
    const unpacked = zlib("createGunzip", at("packed"), at("unpacked"));
    const smaller = (name: string): string => (statSync(at("context")).size / statSync(at(name)).size).toFixed(2);
    const resident = (ours: Run, peer: Run): string =>
      `${ours.megabytes.toFixed(0)} MB resident, peer ${peer.megabytes.toFixed(0)} MB`;
    const sizes = `${smaller("archive.svdq")} times smaller than f16, peer ${smaller("packed")}`;
    const line = (command: string, ours: Run, peer: string, theirs: Run, note: string): BenchRow =>
      row("codec", `svdq ${command} ${basename(dump)}`, ours.milliseconds, peer, theirs.milliseconds, note);
    return [
      line("compress", compressed, "gzip -6, Node", packed, `${resident(compressed, packed)}; ${sizes}`),
      line("restore", restored, "gunzip, Node", unpacked, resident(restored, unpacked)),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}
