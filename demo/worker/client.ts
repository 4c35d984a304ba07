/** A client of the service for any host with `fetch`: what Node, a page or another worker calls. */
import type { PrefixChunk, PrefixInfo, PrefixStats } from "svdq/store";
import { afterShared } from "./shared-chunks.ts";

export interface Upload {
  model: string;
  tokens: Int32Array;
  chunks: PrefixChunk[];
  ttlSeconds?: number;
  pinned?: boolean;
  labels?: Record<string, string | number>;
}

export type Match = PrefixInfo & { url: string };

/** The first chunks of a stored prefix. */
type After = Pick<PrefixInfo, "id" | "etag"> & { chunks: number };

/** An answer that is no success. */
export class ServiceError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, { code, message }: { code: string; message: string }) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The body of an upload, as src/upload.ts has it; `after`: behind chunks that the service has. */
export function uploadBody({ model, tokens, chunks, ...others }: Upload & { after?: After }): Blob {
  const places = chunks.map(({ tokenTo, bytes }) => ({ tokenTo, bytes: bytes.length }));
  const head = new TextEncoder().encode(
    JSON.stringify({ model, tokenCount: tokens.length, chunks: places, ...others }),
  );
  const front = new DataView(new ArrayBuffer(4 + head.length + 4 * tokens.length));
  front.setUint32(0, head.length, true);
  new Uint8Array(front.buffer).set(head, 4);
  for (let i = 0; i < tokens.length; i++) front.setInt32(4 + head.length + 4 * i, tokens[i], true);
  return new Blob([front.buffer, ...chunks.map(({ bytes }) => bytes as Uint8Array<ArrayBuffer>)]);
}

export class PrefixClient {
  readonly #url: string;
  readonly #token: string;

  constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  async #ask(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${this.#token}` };
    const ask = () => fetch(`${this.#url}${path}`, { ...init, headers });
    // Servers close connections that nothing came on for a while, workerd after 5 s: a request on its way then is lost,
    // and what only asks may ask again (RFC 9112, section 9.3.1).
    const onlyAsks = init.method === undefined || init.method === "POST";
    const response = await ask().catch((error) => (onlyAsks ? ask() : Promise.reject(error)));
    if (response.ok) return response;
    const body = (await response.json().catch(() => undefined)) as { error?: { code: string; message: string } };
    throw new ServiceError(response.status, body?.error ?? { code: "HTTP", message: `HTTP ${response.status}` });
  }

  /** Uploads a prefix, but not the chunks at its start that the service has; `sentBytes` are those of the others. */
  async put(prefix: Upload, options: { signal?: AbortSignal } = {}): Promise<PrefixInfo & { sentBytes: number }> {
    const send = async (upload: Upload & { after?: After }) => {
      const response = await this.#ask("/prefixes", { method: "PUT", body: uploadBody(upload), ...options });
      const sentBytes = upload.chunks.reduce((sum, { bytes }) => sum + bytes.length, 0);
      return { ...((await response.json()) as PrefixInfo), sentBytes };
    };
    const match = await this.match(prefix.model, prefix.tokens);
    const { count, rest } = await afterShared(prefix.chunks, match?.chunks ?? []);
    if (!match || count === 0) return send(prefix);
    const after = { id: match.id, etag: match.etag, chunks: count };
    return send({ ...prefix, chunks: rest, after }).catch((error) => {
      // Gone or replaced meanwhile.
      if (error instanceof ServiceError && error.status === 409) return send(prefix);
      throw error;
    });
  }

  /** The longest stored prefix of `tokens`; undefined where there is none. */
  async match(model: string, tokens: ArrayLike<number>): Promise<Match | undefined> {
    const body = JSON.stringify({ model, tokens: Array.from(tokens) });
    const { match } = (await (await this.#ask("/prefixes/match", { method: "POST", body })).json()) as {
      match: Match | null;
    };
    return match ?? undefined;
  }

  /** Bytes of a match, or of bytes `start` to `end` - 1 of it. */
  async get({ url }: Pick<Match, "url">, range?: { start: number; end: number }): Promise<Uint8Array> {
    const headers: Record<string, string> = range ? { range: `bytes=${range.start}-${range.end - 1}` } : {};
    return new Uint8Array(await (await this.#ask(url, { headers })).arrayBuffer());
  }

  /** Queries (queryHeads, headDim) f32 after RoPE on a stored layer; outputs of the same shape. */
  async attend(id: string, layer: number, queries: Float32Array): Promise<Float32Array> {
    const path = `/attend?prefix=${id}&layer=${layer}`;
    const response = await this.#ask(path, { method: "POST", body: queries as Float32Array<ArrayBuffer> });
    return new Float32Array(await response.arrayBuffer());
  }

  async delete(id: string): Promise<void> {
    await this.#ask(`/prefixes/${id}`, { method: "DELETE" });
  }

  async list(): Promise<Omit<Match, "chunks">[]> {
    return ((await (await this.#ask("/prefixes")).json()) as { prefixes: Match[] }).prefixes;
  }

  async stats(): Promise<PrefixStats> {
    return (await this.#ask("/stats")).json() as never;
  }
}
