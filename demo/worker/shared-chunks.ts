/** What a service has already of the chunks that are to be uploaded. */
import type { PrefixChunk, PrefixInfo } from "svdq/store";

/** The first 16 bytes of SHA-256 in hex, as `PrefixInfo.chunks` has it. */
async function digestOf(bytes: Uint8Array): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return Array.from(hash.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * How many chunks of what is stored, which the service may have cut into smaller ones, are the beginning of `chunks`;
 * and what comes after them.
 */
export async function afterShared(
  chunks: readonly PrefixChunk[],
  stored: PrefixInfo["chunks"],
): Promise<{ count: number; rest: PrefixChunk[] }> {
  let rest = [...chunks];
  for (const [count, { tokenTo, bytes, digest }] of stored.entries()) {
    const [next, ...others] = rest;
    const part = next?.bytes.subarray(0, bytes);
    const left = next?.bytes.subarray(bytes);
    const isSame = part?.length === bytes && tokenTo === (left.length > 0 ? next.tokenFrom : next.tokenTo);
    if (!isSame || (await digestOf(part)) !== digest) return { count, rest };
    rest = left.length > 0 ? [{ ...next, bytes: left }, ...others] : others;
  }
  return { count: stored.length, rest };
}
