/** Uses and counts that are not yet in an index. */
import { type Counts, NO_COUNTS } from "./prefix-index.ts";

export const COUNT_NAMES = Object.keys(NO_COUNTS) as (keyof Counts)[];

export const addCounts = (a: Counts, b: Partial<Counts>): Counts =>
  Object.fromEntries(COUNT_NAMES.map((name) => [name, a[name] + (b[name] ?? 0)])) as unknown as Counts;

/** PrefixStores over the same bytes may share one: on Workers, where each request has a PrefixStore of its own. */
export class Uses {
  /** Id -> milliseconds since 1970. */
  readonly used = new Map<string, number>();
  counts: Counts = { ...NO_COUNTS };
  /** When all was in the index last; undefined before the first time that anyone asks. */
  written: number | undefined;

  note(id: string | undefined, now: number, counts: Partial<Counts>): void {
    if (id !== undefined) this.used.set(id, now);
    this.counts = addCounts(this.counts, counts);
  }

  snapshot(): { used: Map<string, number>; counts: Counts } {
    return { used: new Map(this.used), counts: { ...this.counts } };
  }

  /** A snapshot is in the index; what was noted since stays. */
  forget({ used, counts }: ReturnType<Uses["snapshot"]>, now: number): void {
    for (const [id, time] of used) if (this.used.get(id) === time) this.used.delete(id);
    for (const name of COUNT_NAMES) this.counts[name] -= counts[name];
    this.written = now;
  }
}
