/**
 * Mutated archives: whatever a file holds, reading it ends with a cache or a FormatError, and a cache that is read can be
 * restored or refused as one. Most mutants have checksums that are right, or none would get past them. A mutant that is
 * answered as none before is kept and mutated on: what the reader says stands for the branch that it took.
 */
import { decodeArchive } from "../../src/archive/reader.ts";
import { encodeArchive } from "../../src/archive/writer.ts";
import { joinChunks } from "../../src/codec/chunks.ts";
import { compress } from "../../src/codec/compress.ts";
import type { CodecOptions } from "../../src/codec/options.ts";
import { restoreLayer } from "../../src/codec/restore.ts";
import { FormatError } from "../../src/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { Dice } from "../support/any-cache.ts";
import { ArchiveParts } from "../support/archive-parts.ts";
import { TinyCache } from "../support/tiny-cache.ts";

/** Small caches that have, between them, what the format has. */
const SEEDS: Partial<CodecOptions>[] = [
  { keyBits: 2, valueBits: 1 },
  { schedule: [8, 4, 2, 1, 1, 0, 0, 0] },
  { entropy: true, keyBits: 2, valueBits: 2, grouping: "head" },
  { anchorSpan: null, basisBits: 5 },
];

/** A reader that is slower than this on a file of some kilobytes hangs. */
const MOST_MILLISECONDS = 2000;
/** Of a value in the header. */
const ODD: unknown[] = [
  ...[0, 1, -1, 2 ** 31 - 1, 2 ** 32, 1e300, 0.5, "", "f64", null, [], {}, true, [0], "__proto__", -0],
];
const MOST_KEPT = 500;

export interface FuzzReport {
  runs: number;
  /** Mutants that were read, of them restored. */
  read: number;
  restored: number;
  /** Answers that differ but for numbers. */
  answers: number;
}

export class Fuzz {
  readonly #runtime: Runtime;
  readonly #dice: Dice;
  readonly #kept: Uint8Array[];
  readonly #answers = new Set<string>();
  readonly report: FuzzReport = { runs: 0, read: 0, restored: 0, answers: 0 };

  /** `runtime` has a limit to its memory, which no small file may reach. */
  private constructor(runtime: Runtime, seed: number, archives: Uint8Array[]) {
    this.#runtime = runtime;
    this.#dice = new Dice(seed);
    this.#kept = archives;
  }

  static async create(runtime: Runtime, seed: number): Promise<Fuzz> {
    const source = new TinyCache({ layers: 1, kvHeads: 2, tokens: 70, queries: 6, noise: 0.3, pairs: 15 });
    const archives: Uint8Array[] = [];
    for (const options of SEEDS) {
      archives.push(joinChunks(encodeArchive(await compress(runtime, source, { sinks: 1, recent: 2, ...options }))));
    }
    return new Fuzz(runtime, seed, archives);
  }

  /** One mutant; throws where its reader does what it must not, with the mutant in `cause`. */
  step(): void {
    const mutant = this.#mutant();
    const start = performance.now();
    const answer = this.#answerTo(mutant);
    const milliseconds = performance.now() - start;
    const fail = (what: string, error?: unknown): never => {
      throw Object.assign(new Error(`run ${this.report.runs}: ${what}`, { cause: error }), { mutant });
    };
    if (answer instanceof Error) fail(`expected a FormatError, got ${answer.name}: ${answer.message}`, answer);
    if (milliseconds > MOST_MILLISECONDS) fail(`expected an answer at once, got one after ${milliseconds} ms`);
    if (this.#runtime.heap.bytesInUse !== 0) fail("expected memory to be given back");
    this.report.runs++;
    if (this.#answers.has(answer as string)) return;
    this.#answers.add(answer as string);
    this.report.answers = this.#answers.size;
    if (this.#kept.length < MOST_KEPT) this.#kept.push(mutant);
  }

  /** The answer without its numbers, or an error that must not be. */
  #answerTo(bytes: Uint8Array): string | Error {
    try {
      const cache = decodeArchive(bytes);
      this.report.read++;
      for (let layer = 0; layer < cache.layers.length; layer++) restoreLayer(this.#runtime, cache, layer, "f32");
      this.report.restored++;
      return `restored ${cache.layers.length} ${cache.exactType} ${cache.anchorSpan}`;
    } catch (error) {
      if (!(error instanceof FormatError)) return error as Error;
      return error.message.replace(/got [\s\S]*/, "").replace(/[\d.]+/g, "0");
    }
  }

  #mutant(): Uint8Array {
    const dice = this.#dice;
    // From sound archives as often as from what damage has made of them.
    const from = this.#kept[dice.integer(0, (dice.integer(0, 1) ? SEEDS.length : this.#kept.length) - 1)];
    let parts: ArchiveParts | undefined;
    try {
      if (dice.integer(0, 9) > 0) parts = new ArchiveParts(from);
    } catch {
      // What is kept need not have a header that can be parsed: it is changed as bytes.
    }
    if (!parts?.header?.sections?.length || parts.sections.some((section) => !section)) return this.#changed(from);
    for (let times = dice.integer(1, 3); times > 0; times--) {
      if (dice.integer(0, 2) === 0) return parts.withHeader(this.#changedHeader(parts));
      const index = dice.integer(0, parts.sections.length - 1);
      parts.sections[index] = this.#changed(parts.sections[index]);
      if (dice.integer(0, 30) === 0) parts.version = dice.integer(0, 4);
    }
    return parts.bytes();
  }

  /** Some bytes changed, cut off, put in or taken out. */
  #changed(from: Uint8Array): Uint8Array {
    const dice = this.#dice;
    const bytes = from.slice();
    if (bytes.length === 0) return dice.bytes(dice.integer(0, 4));
    const at = dice.integer(0, bytes.length - 1);
    switch (dice.integer(0, 4)) {
      case 0:
        return bytes.subarray(0, at);
      case 1:
        return Uint8Array.of(...bytes.subarray(0, at), ...dice.bytes(dice.integer(1, 8)), ...bytes.subarray(at));
      case 2:
        return Uint8Array.of(...bytes.subarray(0, at), ...bytes.subarray(at + dice.integer(1, 8)));
      default:
        for (let times = dice.integer(1, 4); times > 0; times--) {
          const place = dice.integer(0, 1) ? at : dice.integer(0, bytes.length - 1);
          bytes[place] = dice.pick([
            0,
            1,
            127,
            128,
            255,
            dice.integer(0, 255),
            bytes[place] ^ (1 << dice.integer(0, 7)),
          ]);
        }
        return bytes;
    }
  }

  /** One value of the header is another, or gone; or its text is damaged. */
  #changedHeader(parts: ArchiveParts): unknown {
    const dice = this.#dice;
    const header = JSON.parse(JSON.stringify(parts.header));
    if (dice.integer(0, 9) === 0) return JSON.stringify(header).slice(0, dice.integer(0, 200));
    let at: Record<string, unknown> = header;
    for (;;) {
      const key = dice.pick(Object.keys(at));
      const inner = at[key];
      const isDeep = typeof inner === "object" && inner !== null && Object.keys(inner).length > 0;
      if (isDeep && dice.integer(0, 4) > 0) {
        at = inner as Record<string, unknown>;
        continue;
      }
      if (dice.integer(0, 5) === 0) delete at[key];
      else at[key] = typeof inner === "number" && dice.integer(0, 1) ? inner + dice.integer(-2, 2) : dice.pick(ODD);
      return header;
    }
  }
}
