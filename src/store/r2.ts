/** Cloudflare R2: a value is an object; ranges and conditions are R2's own. */
import {
  type ByteRange,
  type ByteStore,
  checkKey,
  checkPrefix,
  type ListedKey,
  type PutCondition,
  rangeIn,
  type StoredBytes,
} from "./byte-store.ts";

export interface R2ObjectHead {
  readonly key: string;
  readonly size: number;
  readonly etag: string;
}

/** As much of an R2 bucket's binding as is used here. */
export interface R2BucketLike {
  head(key: string): Promise<R2ObjectHead | null>;
  get(
    key: string,
    options?: { range?: { offset: number; length: number } },
  ): Promise<(R2ObjectHead & { arrayBuffer(): Promise<ArrayBuffer> }) | null>;
  put(
    key: string,
    value: Uint8Array,
    options?: { onlyIf?: { etagMatches?: string; etagDoesNotMatch?: string } },
  ): Promise<R2ObjectHead | null>;
  delete(key: string): Promise<void>;
  list(options: {
    prefix: string;
    cursor?: string;
  }): Promise<{ objects: R2ObjectHead[] } & ({ truncated: false } | { truncated: true; cursor: string })>;
}

export class R2Store implements ByteStore {
  readonly conditionalPut = true;
  readonly #bucket: R2BucketLike;
  readonly #base: string;

  /** `base`, "" or ending in a slash, stands in front of every key in the bucket. */
  constructor(bucket: R2BucketLike, base = "") {
    this.#bucket = bucket;
    this.#base = checkPrefix(base);
  }

  async get(key: string, range?: ByteRange): Promise<StoredBytes | undefined> {
    const name = this.#nameOf(key);
    return range ? this.#part(name, range) : this.#get(name);
  }

  async put(key: string, bytes: Uint8Array, condition?: PutCondition): Promise<boolean> {
    const name = this.#nameOf(key);
    if (!condition) return (await this.#bucket.put(name, bytes)) !== null;
    const { version } = condition;
    const onlyIf = version === null ? { etagDoesNotMatch: "*" } : { etagMatches: version };
    return (await this.#bucket.put(name, bytes, { onlyIf })) !== null;
  }

  async delete(key: string): Promise<void> {
    await this.#bucket.delete(this.#nameOf(key));
  }

  async list(prefix: string): Promise<ListedKey[]> {
    const found: ListedKey[] = [];
    const options: { prefix: string; cursor?: string } = { prefix: this.#base + checkPrefix(prefix) };
    for (;;) {
      const page = await this.#bucket.list(options);
      for (const { key, size } of page.objects) found.push({ key: key.slice(this.#base.length), bytes: size });
      if (!page.truncated) return found;
      options.cursor = page.cursor;
    }
  }

  /** R2 refuses ranges that are empty or begin past the end; its head then says what there is. */
  async #part(name: string, range: ByteRange): Promise<StoredBytes | undefined> {
    const { start, end } = rangeIn(range, Number.MAX_SAFE_INTEGER);
    if (range.end !== undefined && end > start) {
      try {
        return await this.#get(name, { range: { offset: start, length: end - start } });
      } catch (cause) {
        const head = await this.#bucket.head(name);
        if (!head || head.size > start) throw cause;
      }
    }
    const head = await this.#bucket.head(name);
    if (!head) return undefined;
    const { start: offset, end: last } = rangeIn(range, head.size);
    if (offset === last) return { bytes: new Uint8Array(0), totalBytes: head.size, version: head.etag };
    return this.#get(name, { range: { offset, length: last - offset } });
  }

  async #get(name: string, options?: { range: { offset: number; length: number } }): Promise<StoredBytes | undefined> {
    const object = await this.#bucket.get(name, options);
    if (!object) return undefined;
    return { bytes: new Uint8Array(await object.arrayBuffer()), totalBytes: object.size, version: object.etag };
  }

  #nameOf(key: string): string {
    return this.#base + checkKey(key);
  }
}
