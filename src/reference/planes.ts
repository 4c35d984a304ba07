/** Twins of assembly/planes.ts: where each code lies, by the table in codec/layout.ts. */
import { BLOCK_TOKENS, blockCount, PLANE_BYTES, planeCount, type WidthCounts } from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";

/** A part of a channel's code: bits [from, from + bits) lie in nibbles of `plane`, `shift` up. */
interface Place {
  channel: number;
  plane: number;
  shift: number;
  from: number;
  bits: number;
}

function places({ count8, count4, count2, count1 }: WidthCounts): Place[] {
  const all: Place[] = [];
  let [channel, plane] = [0, 0];
  for (let c = 0; c < count8; c++, channel++, plane += 2) {
    all.push({ channel, plane, shift: 0, from: 4, bits: 4 }, { channel, plane: plane + 1, shift: 0, from: 0, bits: 4 });
  }
  for (let c = 0; c < count4; c++, channel++, plane++) all.push({ channel, plane, shift: 0, from: 0, bits: 4 });
  for (let c = 0; c < count2; c++, channel++) {
    all.push({ channel, plane: plane + (c >> 1), shift: 2 * (c & 1), from: 0, bits: 2 });
  }
  plane += Math.ceil(count2 / 2);
  for (let c = 0; c < count1; c++, channel++)
    all.push({ channel, plane: plane + (c >> 2), shift: c & 3, from: 0, bits: 1 });
  return all;
}

export const planeTwins = (views: Views): Pick<Kernels, "packPlanes" | "unpackPlanes" | "gatherTokens"> => {
  /** Calls `visit` with the byte's index, the shift inside it, the code's index and its bits, for every part of every code. */
  const walk = (
    counts: WidthCounts,
    blockCount: number,
    codeStride: number,
    visit: (byte: number, shift: number, code: number, place: Place) => void,
  ): void => {
    const planes = planeCount(counts);
    for (const place of places(counts)) {
      for (let token = 0; token < blockCount * BLOCK_TOKENS; token++) {
        const [block, inside] = [Math.floor(token / BLOCK_TOKENS), token % BLOCK_TOKENS];
        const byte = (block * planes + place.plane) * PLANE_BYTES + (inside % PLANE_BYTES);
        visit(byte, place.shift + (inside >= PLANE_BYTES ? 4 : 0), place.channel * codeStride + token, place);
      }
    }
  };
  return {
    packPlanes(blocksPtr, codesPtr, count8, count4, count2, count1, blockCount, codeStride) {
      const counts = { count8, count4, count2, count1 };
      const blocks = views.u8(blocksPtr, blockCount * planeCount(counts) * PLANE_BYTES).fill(0);
      const codes = views.u8(codesPtr, (count8 + count4 + count2 + count1) * codeStride);
      walk(counts, blockCount, codeStride, (byte, shift, code, { from, bits }) => {
        blocks[byte] |= ((codes[code] >> from) & (2 ** bits - 1)) << shift;
      });
    },

    unpackPlanes(codesPtr, blocksPtr, count8, count4, count2, count1, blockCount, codeStride) {
      const counts = { count8, count4, count2, count1 };
      const blocks = views.u8(blocksPtr, blockCount * planeCount(counts) * PLANE_BYTES);
      const codes = views.u8(codesPtr, (count8 + count4 + count2 + count1) * codeStride);
      for (let c = 0; c * codeStride < codes.length; c++)
        codes.fill(0, c * codeStride, c * codeStride + blockCount * BLOCK_TOKENS);
      walk(counts, blockCount, codeStride, (byte, shift, code, { from, bits }) => {
        codes[code] |= ((blocks[byte] >> shift) & (2 ** bits - 1)) << from;
      });
    },

    gatherTokens(outPtr, blocksPtr, tokensPtr, count, planes, codeBytes) {
      const outBytes = PLANE_BYTES * planes + codeBytes;
      const out = views.u8(outPtr, blockCount(count) * outBytes).fill(0);
      views.u32(tokensPtr, count).forEach((token, i) => {
        const [fromBlock, inside] = [Math.floor(token / BLOCK_TOKENS), token % BLOCK_TOKENS];
        const [toBlock, place] = [Math.floor(i / BLOCK_TOKENS), i % BLOCK_TOKENS];
        const from = views.u8(views.u32(blocksPtr, fromBlock + 1)[fromBlock], outBytes);
        const to = out.subarray(toBlock * outBytes, (toBlock + 1) * outBytes);
        for (let at = 0; at < PLANE_BYTES * planes; at += PLANE_BYTES) {
          const nibble = (from[at + (inside % PLANE_BYTES)] >> (inside < PLANE_BYTES ? 0 : 4)) & 15;
          to[at + (place % PLANE_BYTES)] |= nibble << (place < PLANE_BYTES ? 0 : 4);
        }
        if (codeBytes) to[PLANE_BYTES * planes + place] = from[PLANE_BYTES * planes + inside];
      });
    },
  };
};
