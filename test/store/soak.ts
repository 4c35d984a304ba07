/**
 * Rounds of put, match, get, delete, pin and sweep by two writers over one store, whose calls fail at random, before or
 * after they are carried out, and whose processes die at random. After every round the index is compared with the one
 * before: what has gone without being evicted, expired or deleted is a loss; what reads otherwise than it was put is
 * damage. Now and then all that crashes left behind is swept: what is left then and named by nothing is a leak.
 */
import { MemoryStore } from "../../src/store/memory.ts";
import { decodeIndex, emptyIndex, heldBytes, type PrefixIndex } from "../../src/store/prefix-index.ts";
import { PrefixStore } from "../../src/store/prefix-store.ts";
import { Dice } from "../support/any-cache.ts";
import { FaultyStore } from "./faulty-store.ts";
import { bytesOf, readAll, somePrefix, someTokens } from "./prefixes.ts";

export interface SoakReport {
  rounds: number;
  calls: number;
  faults: number;
  crashes: number;
  puts: number;
  putsFailed: number;
  hits: number;
  reads: number;
  evicted: number;
  expired: number;
  swept: number;
  mostBytes: number;
}

const BUDGET = 4000;
const FAULT_CHANCE = 0.03;
const CRASH_CHANCE = 0.02;
const SWEEP_EVERY = 250;
const HOUR_MS = 3600_000;

export class Soak {
  readonly report: SoakReport = {
    ...{ rounds: 0, calls: 0, faults: 0, crashes: 0, puts: 0, putsFailed: 0 },
    ...{ hits: 0, reads: 0, evicted: 0, expired: 0, swept: 0, mostBytes: 0 },
  };
  readonly #dice: Dice;
  readonly #inner = new MemoryStore();
  readonly #faulty = new FaultyStore(this.#inner);
  readonly #writers: PrefixStore[];
  /** What each prefix may hold: the last bytes that were put, or any of those whose put did not say how it ended. */
  readonly #allowed = new Map<string, Set<string>>();
  readonly #deleted = new Set<string>();
  #ms = 1e12;

  constructor(seed: number) {
    this.#dice = new Dice(seed);
    this.#faulty.faultAt = () => {
      this.report.calls++;
      if (!this.#chance(FAULT_CHANCE)) return undefined;
      this.report.faults++;
      return this.#chance(0.5) ? "before" : "after";
    };
    this.#writers = [this.#open(), this.#open()];
  }

  /** Throws an Error that says what was lost, leaked or damaged. */
  async run(rounds: number, onRound?: () => void): Promise<SoakReport> {
    for (let round = 1; round <= rounds; round++) {
      await this.#round();
      if (round % SWEEP_EVERY === 0 || round === rounds) await this.#sweep();
      onRound?.();
    }
    return this.report;
  }

  #chance = (p: number): boolean => this.#dice.integer(0, 999_999) < p * 1e6;

  #open(): PrefixStore {
    const options = { budgetBytes: BUDGET, touchSeconds: 5, now: () => this.#ms };
    return new PrefixStore(this.#faulty, options);
  }

  async #index(): Promise<PrefixIndex> {
    const held = await this.#inner.get("index.json");
    return held ? decodeIndex(held.bytes) : emptyIndex();
  }

  async #round(): Promise<void> {
    this.report.rounds++;
    this.#ms += this.#dice.integer(0, 3000);
    for (const i of [0, 1]) {
      if (!this.#chance(CRASH_CHANCE)) continue;
      this.report.crashes++;
      this.#writers[i] = this.#open();
    }
    const before = await this.#index();
    this.#deleted.clear();
    const isShared = this.#chance(0.3);
    const work = isShared ? [0, 1] : [this.#dice.integer(0, 1)];
    const put = await Promise.all(work.map((i) => this.#step(this.#writers[i], isShared)));
    this.#compare(
      before,
      await this.#index(),
      put.filter((id) => id !== undefined),
    );
  }

  /** Gives the id of what was surely put. */
  async #step(store: PrefixStore, isShared: boolean): Promise<string | undefined> {
    const kind = this.#dice.integer(0, 99);
    if (kind < 40) return this.#put(store, isShared);
    const index = await this.#index();
    const ids = Object.keys(index.prefixes);
    const id = ids.length > 0 ? ids[this.#dice.integer(0, ids.length - 1)] : "0".repeat(32);
    try {
      if (kind < 65) await this.#match(store);
      else if (kind < 85) await this.#read(store, id, isShared);
      else if (kind < 92) {
        this.#deleted.add(id);
        await store.delete(id);
      } else if (kind < 98) await store.pin(id, this.#chance(0.3));
      else this.report.swept += await store.sweep();
    } catch (error) {
      if (!isInjected(error)) throw error;
    }
    return undefined;
  }

  #tokens(): Int32Array {
    return someTokens(this.#dice.integer(1, 120), this.#dice.integer(1, 4));
  }

  async #put(store: PrefixStore, isShared: boolean): Promise<string | undefined> {
    const ttl = this.#chance(0.2) ? { ttlSeconds: this.#dice.integer(1, 120) } : {};
    const prefix = { ...somePrefix(this.#tokens(), 16, this.#dice.integer(0, 1)), ...ttl };
    const bytes = bytesOf(prefix).toString("hex");
    const key = String(prefix.tokens);
    const allowed = this.#allowed.get(key) ?? new Set();
    this.#allowed.set(key, allowed.add(bytes));
    this.report.puts++;
    try {
      const { id } = await store.put(prefix);
      if (!isShared) this.#allowed.set(key, new Set([bytes]));
      this.#names.set(id, key);
      return id;
    } catch (error) {
      this.report.putsFailed++;
      if (!isInjected(error) && (error as { code?: string }).code !== "CAPACITY") throw error;
      return undefined;
    }
  }

  /** Id -> tokens as text, learned from puts that succeeded. */
  readonly #names = new Map<string, string>();

  async #match(store: PrefixStore): Promise<void> {
    const tokens = this.#tokens();
    const found = await store.match({ model: "m", tokens });
    if (!found) return;
    this.report.hits++;
    if (found.tokenCount > tokens.length) throw new Error(`a match of ${found.tokenCount} of ${tokens.length} tokens`);
  }

  async #read(store: PrefixStore, id: string, isShared: boolean): Promise<void> {
    let bytes: string | undefined;
    try {
      bytes = (await readAll(store, id))?.toString("hex");
    } catch (error) {
      // Beside another writer the chunks may go while they are read.
      if (isShared && (error as { code?: string }).code === "FORMAT") return;
      throw error;
    }
    const key = this.#names.get(id);
    if (bytes === undefined || key === undefined) return;
    this.report.reads++;
    const own = (await this.#index()).prefixes[id];
    // Where its own prefix is gone, a longer one that begins with it has its bytes, of whichever version.
    const isOwn = own !== undefined && (own.expires ?? Number.POSITIVE_INFINITY) > this.#ms;
    const tokens = Int32Array.from(key.split(","), Number);
    const any = [0, 1].map((version) => bytesOf(somePrefix(tokens, 16, version)).toString("hex"));
    if (!(isOwn && !isShared ? this.#allowed.get(key)!.has(bytes) : any.includes(bytes))) {
      throw new Error(`${id}: reads otherwise than it was put`);
    }
  }

  #compare(before: PrefixIndex, after: PrefixIndex, put: string[]): void {
    const had = new Set([...Object.keys(before.prefixes), ...put]);
    const gone = [...had].filter((id) => !(id in after.prefixes) && !this.#deleted.has(id));
    const evicted = after.counts.evicted - before.counts.evicted;
    const expired = after.counts.expired - before.counts.expired;
    if (gone.length > evicted + expired) {
      throw new Error(`lost: ${gone.join(", ")} are gone, with ${evicted} evicted and ${expired} expired`);
    }
    if (gone.some((id) => before.prefixes[id]?.pinned && before.prefixes[id].expires === null && evicted === 0)) {
      throw new Error("lost: a pinned prefix is gone");
    }
    this.report.evicted += evicted;
    this.report.expired += expired;
    const held = heldBytes(after);
    this.report.mostBytes = Math.max(this.report.mostBytes, held);
    if (held > BUDGET) throw new Error(`${held} bytes held within a budget of ${BUDGET}`);
  }

  /** Without faults: everything reads, and nothing is left that no prefix names. */
  async #sweep(): Promise<void> {
    const { faultAt } = this.#faulty;
    this.#faulty.faultAt = () => undefined;
    this.#ms += 2 * HOUR_MS;
    const store = this.#open();
    this.report.swept += await store.sweep();
    await store.flush();
    const index = await this.#index();
    const objects = await this.#inner.list("objects/");
    const bytes = objects.reduce((sum, object) => sum + object.bytes!, 0);
    const unnamed = objects.filter(({ key }) => !(key in index.objects));
    if (unnamed.length > 0) throw new Error(`leaked: ${unnamed.length} objects that no prefix names`);
    if (bytes !== heldBytes(index)) throw new Error(`leaked: ${bytes} bytes stored, ${heldBytes(index)} known`);
    for (const id of Object.keys(index.prefixes)) await this.#read(store, id, false);
    this.#faulty.faultAt = faultAt;
  }
}

const isInjected = (error: unknown): boolean => String(error).includes("injected");
