/**
 * The body of PUT /prefixes, read as it comes:
 *
 *   u32 headBytes | head, JSON in UTF-8 | i32 token ids | bytes of the chunks, one after the other
 *
 * head: { model, tokenCount, chunks: [{ tokenTo, bytes }], after?: { id, etag, chunks }, ttlSeconds?, pinned?, labels? },
 * everything little-endian. A chunk begins at the token where the one before it ends. `after`: the first so many chunks
 * are those of a prefix that is stored, and neither are in `chunks` nor come in the body. Memory holds the head, the
 * tokens and a piece.
 */
import type { HeldChunk, NewPrefix, PrefixChunk, PrefixInfo } from "svdq/store";
import { Refusal } from "./errors.ts";

const MOST_HEAD_BYTES = 2 ** 18;
const MOST_TOKENS = 2 ** 20;
const MOST_DRAINED_BYTES = 2 ** 20;

/** Bytes of a stream in the amounts that are asked for. */
class Incoming {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #held: Uint8Array = new Uint8Array(0);

  constructor(body: ReadableStream<Uint8Array>) {
    this.#reader = body.getReader();
  }

  /** Exactly so many, in an array of their own; a Refusal where the body ends before. */
  async take(count: number, what: string): Promise<Uint8Array> {
    const out = new Uint8Array(count);
    for (let at = 0; at < count; ) {
      if (this.#held.length === 0 && !(await this.#more())) {
        throw new Refusal(400, "BAD_BODY", `${what}: expected ${count} bytes, got ${at} before the body's end`);
      }
      const part = this.#held.subarray(0, count - at);
      out.set(part, at);
      at += part.length;
      this.#held = this.#held.subarray(part.length);
    }
    return out;
  }

  async expectEnd(): Promise<void> {
    if (this.#held.length > 0 || (await this.#more())) {
      throw new Refusal(400, "BAD_BODY", "body: expected its end after the last chunk, got more");
    }
  }

  /** Lets go of the rest of a body that was refused; reads a short one to its end, or the connection would break. */
  async cancel(): Promise<void> {
    try {
      for (let left = MOST_DRAINED_BYTES; left > 0 && (await this.#more()); left -= this.#held.length);
      await this.#reader.cancel();
    } catch {
      // The caller hung up.
    }
  }

  async #more(): Promise<boolean> {
    for (;;) {
      const { value, done } = await this.#reader.read();
      if (done) return false;
      if (value.length === 0) continue;
      this.#held = value;
      return true;
    }
  }
}

interface UploadHead extends Pick<NewPrefix, "model" | "ttlSeconds" | "pinned" | "labels"> {
  tokenCount: number;
  chunks: { tokenTo: number; bytes: number }[];
  after?: { id: string; etag: string; chunks: number };
}

/** A prefix whose chunks come out of the body while they are stored; `cancel` lets go of the body. */
export async function readUpload(
  body: ReadableStream<Uint8Array>,
  limits: { mostBytes: number; pieceBytes: number },
  infoOf: (id: string) => Promise<PrefixInfo | undefined>,
): Promise<{ prefix: NewPrefix; cancel: () => Promise<void> }> {
  const incoming = new Incoming(body);
  const cancel = () => incoming.cancel();
  try {
    const head = checkHead(await readHead(incoming));
    const { model, tokenCount, ttlSeconds, pinned, labels } = head;
    const held = head.after ? await heldChunks(head.after, infoOf) : [];
    checkBytes([...held, ...head.chunks], limits.mostBytes);
    const view = new DataView((await incoming.take(4 * tokenCount, "tokens")).buffer);
    const tokens = Int32Array.from({ length: tokenCount }, (_, i) => view.getInt32(4 * i, true));
    const others = {
      ...(ttlSeconds !== undefined && { ttlSeconds }),
      ...(pinned !== undefined && { pinned }),
      ...(labels !== undefined && { labels }),
    };
    return { prefix: { model, tokens, ...others, chunks: chunksOf(incoming, held, head, limits.pieceBytes) }, cancel };
  } catch (error) {
    await cancel();
    throw error;
  }
}

async function readHead(incoming: Incoming): Promise<UploadHead> {
  const headBytes = new DataView((await incoming.take(4, "headBytes")).buffer).getUint32(0, true);
  if (headBytes > MOST_HEAD_BYTES) {
    throw new Refusal(413, "TOO_LARGE", `headBytes: expected at most ${MOST_HEAD_BYTES}, got ${headBytes}`);
  }
  const text = new TextDecoder().decode(await incoming.take(headBytes, "head"));
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal(400, "BAD_BODY", "head: expected JSON, got something else");
  }
}

const isCount = (value: unknown, most: number): boolean =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;

function checkHead(head: UploadHead): UploadHead {
  const refuse = (what: string, expected: string) => {
    throw new Refusal(400, "BAD_BODY", `head: ${what}: expected ${expected}, got something else`);
  };
  if (typeof head !== "object" || head === null) refuse("head", "an object");
  const { model, tokenCount, chunks, after, ttlSeconds, pinned, labels } = head;
  if (typeof model !== "string" || model.length > 200) refuse("model", "a string of at most 200 characters");
  if (!isCount(tokenCount, MOST_TOKENS) || tokenCount === 0) refuse("tokenCount", `1 to ${MOST_TOKENS}`);
  if (!Array.isArray(chunks) || (chunks.length === 0 && !after)) refuse("chunks", "at least one");
  for (const chunk of chunks) {
    if (!isCount(chunk?.tokenTo, tokenCount) || !isCount(chunk.bytes, 2 ** 40)) refuse("chunks", "tokenTo and bytes");
  }
  if (ttlSeconds !== undefined && !isCount(ttlSeconds, 2 ** 31)) refuse("ttlSeconds", "whole seconds");
  if (pinned !== undefined && typeof pinned !== "boolean") refuse("pinned", "true or false");
  const isLabel = (value: unknown) => typeof value === "string" || Number.isFinite(value);
  if (labels !== undefined && (labels === null || !Object.values(labels).every(isLabel))) refuse("labels", "texts");
  const isAfter = (value: UploadHead["after"]) =>
    typeof value?.id === "string" && typeof value.etag === "string" && isCount(value.chunks, MOST_TOKENS);
  if (after !== undefined && !isAfter(after)) refuse("after", "id, etag and chunks");
  return head;
}

/** The chunks that are not sent; 409 where the caller knows another state of the store than there is. */
async function heldChunks(
  { id, etag, chunks }: NonNullable<UploadHead["after"]>,
  infoOf: (id: string) => Promise<PrefixInfo | undefined>,
): Promise<PrefixInfo["chunks"]> {
  const info = await infoOf(id);
  if (info?.etag === etag && chunks <= info.chunks.length) return info.chunks.slice(0, chunks);
  throw new Refusal(409, "MISMATCH", "after: expected a prefix as it is stored, got one that is not: send all chunks");
}

function checkBytes(chunks: { bytes: number }[], mostBytes: number): void {
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.bytes, 0);
  if (bytes <= mostBytes) return;
  throw new Refusal(413, "TOO_LARGE", `chunks: expected at most ${mostBytes} bytes in all, got ${bytes}`);
}

/** What is held, then pieces of the chunks that come, each chunk's tokens with its last one. */
async function* chunksOf(
  incoming: Incoming,
  held: PrefixInfo["chunks"],
  { chunks }: UploadHead,
  pieceBytes: number,
): AsyncGenerator<PrefixChunk | HeldChunk> {
  for (const { tokenFrom, tokenTo, digest } of held) yield { tokenFrom, tokenTo, digest };
  let tokenFrom = held.at(-1)?.tokenTo ?? 0;
  for (const [i, { tokenTo, bytes }] of chunks.entries()) {
    for (let at = 0; at < bytes || at === 0; at += pieceBytes) {
      const piece = await incoming.take(Math.min(pieceBytes, bytes - at), `chunks[${i}]`);
      const isLast = at + piece.length === bytes;
      yield { tokenFrom, tokenTo: isLast ? tokenTo : tokenFrom, bytes: piece };
    }
    tokenFrom = tokenTo;
  }
  await incoming.expectEnd();
}
