/** Values that leave the process sealed: encrypted, or turned in any other way that can be turned back. */
import { FormatError } from "../errors.ts";
import type { ByteRange, ByteStore, ListedKey, PutCondition, StoredBytes } from "./byte-store.ts";
import { sliceOf } from "./byte-store.ts";

export interface Seal {
  /** What is stored for a value; `key` may be bound to it, so that values cannot be exchanged. */
  seal(bytes: Uint8Array, key: string): Promise<Uint8Array>;
  /** Its inverse; throws for what it did not make. */
  open(sealed: Uint8Array, key: string): Promise<Uint8Array>;
}

/** A store over another; ranges are cut from whole values, listed lengths are those of sealed values. */
export class SealedStore implements ByteStore {
  readonly conditionalPut: boolean;
  readonly #inner: ByteStore;
  readonly #seal: Seal;

  constructor(inner: ByteStore, seal: Seal) {
    this.conditionalPut = inner.conditionalPut;
    this.#inner = inner;
    this.#seal = seal;
  }

  async get(key: string, range?: ByteRange): Promise<StoredBytes | undefined> {
    const held = await this.#inner.get(key);
    if (!held) return undefined;
    const bytes = await this.#seal.open(held.bytes, key);
    return { bytes: sliceOf(bytes, range), totalBytes: bytes.length, version: held.version };
  }

  async put(key: string, bytes: Uint8Array, condition?: PutCondition): Promise<boolean> {
    return this.#inner.put(key, await this.#seal.seal(bytes, key), condition);
  }

  delete(key: string): Promise<void> {
    return this.#inner.delete(key);
  }

  list(prefix: string): Promise<ListedKey[]> {
    return this.#inner.list(prefix);
  }
}

const NONCE_BYTES = 12;

/**
 * AES-GCM with a key of the caller's (`crypto.subtle.generateKey` or `importKey`), a random nonce in front of each
 * value, and its name as additional data (NIST SP 800-38D: at most 2^32 values a key with random nonces).
 */
export function aesGcm(secret: CryptoKey): Seal {
  const parameters = (nonce: Uint8Array, key: string) => ({
    ...{ name: "AES-GCM", iv: nonce as Uint8Array<ArrayBuffer> },
    additionalData: new TextEncoder().encode(key),
  });
  return {
    async seal(bytes, key) {
      const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
      const plain = bytes as Uint8Array<ArrayBuffer>;
      const cipher = new Uint8Array(await crypto.subtle.encrypt(parameters(nonce, key), secret, plain));
      const sealed = new Uint8Array(NONCE_BYTES + cipher.length);
      sealed.set(nonce);
      sealed.set(cipher, NONCE_BYTES);
      return sealed;
    },
    async open(sealed, key) {
      const [nonce, cipher] = [sealed.slice(0, NONCE_BYTES), sealed.slice(NONCE_BYTES)];
      try {
        return new Uint8Array(await crypto.subtle.decrypt(parameters(nonce, key), secret, cipher));
      } catch {
        throw new FormatError(`${key}: expected a value sealed with this key under this name, got another`);
      }
    },
  };
}
