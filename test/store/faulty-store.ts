/** A store whose calls fail when told: before anything is done, or after all of it was, as networks do. */
import type { ByteRange, ByteStore, PutCondition } from "../../src/store/byte-store.ts";

export type Fault = "before" | "after" | undefined;

export class FaultyStore implements ByteStore {
  readonly conditionalPut: boolean;
  readonly inner: ByteStore;
  calls = 0;
  /** Asked for every call, counted from 1. */
  faultAt: (call: number) => Fault = () => undefined;

  constructor(inner: ByteStore) {
    this.inner = inner;
    this.conditionalPut = inner.conditionalPut;
  }

  get = (key: string, range?: ByteRange) => this.#run(() => this.inner.get(key, range));
  put = (key: string, bytes: Uint8Array, condition?: PutCondition) =>
    this.#run(() => this.inner.put(key, bytes, condition));
  delete = (key: string) => this.#run(() => this.inner.delete(key));
  list = (prefix: string) => this.#run(() => this.inner.list(prefix));

  async #run<T>(work: () => Promise<T>): Promise<T> {
    const fault = this.faultAt(++this.calls);
    if (fault === "before") throw new Error("injected before");
    const result = await work();
    if (fault === "after") throw new Error("injected after");
    return result;
  }
}
