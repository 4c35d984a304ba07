/** Twins of assembly/range.ts, with states and shares in plain arrays. */
import { MODEL, RANGE_LEAST, RANGE_TOTAL, RANGE_WINDOW, rangeBytes } from "../codec/layout.ts";
import type { Views } from "../runtime/heap.ts";
import type { Kernels } from "../runtime/kernels.ts";

const LEAST_STATE = 2 ** 16;
const NIBBLES = 16;

interface Share {
  below: number;
  own: number;
}

export const rangeTwins = (views: Views): Pick<Kernels, "resetModels" | "encodeRange" | "decodeRange"> => {
  const modelAt = (modelsPtr: number, index: number) => {
    const ptr = modelsPtr + MODEL.bytes * index;
    return { below: views.u16(ptr, NIBBLES), seen: views.u16(ptr + MODEL.seen, 1) };
  };
  type Model = ReturnType<typeof modelAt>;

  const shareOf = ({ below }: Model, nibble: number): Share => {
    const next = nibble < NIBBLES - 1 ? below[nibble + 1] : RANGE_TOTAL;
    return { below: below[nibble], own: next - below[nibble] };
  };

  const learn = ({ below, seen }: Model, nibble: number): void => {
    const rate = Math.floor(RANGE_TOTAL / (seen[0] + 2));
    for (let i = 0; i < NIBBLES; i++) {
      const target = RANGE_LEAST * i + (i > nibble ? RANGE_TOTAL - NIBBLES * RANGE_LEAST : 0);
      below[i] += Math.floor(((target - below[i]) * rate + RANGE_TOTAL / 2) / RANGE_TOTAL);
    }
    seen[0] = Math.min(seen[0] + 1, RANGE_WINDOW - 2);
  };

  /** Visits the nibbles of all codes in the order of coding; `meet` gives each nibble by its model. */
  const walk = (
    codes: Uint8Array,
    modelsPtr: number,
    wideCount: number,
    narrowCount: number,
    tokenCount: number,
    codeStride: number,
    meet: (model: Model, codedNibble: number) => number,
  ): void => {
    const step = (index: number, coded: number): number => {
      const model = modelAt(modelsPtr, index);
      const nibble = meet(model, coded);
      learn(model, nibble);
      return nibble;
    };
    for (let token = 0; token < tokenCount; token++) {
      for (let c = 0; c < wideCount + narrowCount; c++) {
        const at = c * codeStride + token;
        if (c >= wideCount) {
          codes[at] = step(17 * wideCount + c - wideCount, codes[at]);
          continue;
        }
        const high = step(17 * c, codes[at] >> 4);
        codes[at] = 16 * high + step(17 * c + 1 + high, codes[at] & 15);
      }
    }
  };

  return {
    resetModels(modelsPtr, modelCount) {
      for (let i = 0; i < modelCount; i++) {
        const { below, seen } = modelAt(modelsPtr, i);
        below.forEach((_, nibble) => {
          below[nibble] = (nibble * RANGE_TOTAL) / NIBBLES;
        });
        seen[0] = 0;
      }
    },

    encodeRange(outPtr, _scratchPtr, modelsPtr, codesPtr, wideCount, narrowCount, tokenCount, codeStride) {
      const codes = views.u8(codesPtr, (wideCount + narrowCount) * codeStride);
      const shares: Share[] = [];
      walk(codes, modelsPtr, wideCount, narrowCount, tokenCount, codeStride, (model, nibble) => {
        shares.push(shareOf(model, nibble));
        return nibble;
      });
      const states = new Array<number>(4).fill(LEAST_STATE);
      const words: number[] = [];
      for (let k = shares.length - 1; k >= 0; k--) {
        const { below, own } = shares[k];
        let state = states[k % 4];
        if (state >= own * 2 ** 17) {
          words.unshift(state % 2 ** 16);
          state = Math.floor(state / 2 ** 16);
        }
        states[k % 4] = Math.floor(state / own) * RANGE_TOTAL + (state % own) + below;
      }
      const byteCount = 16 + 2 * words.length;
      const ptr = outPtr + rangeBytes(wideCount, narrowCount, tokenCount) - byteCount;
      states.forEach((state, i) => {
        views.u16(ptr + 4 * i, 2).set([state % 2 ** 16, Math.floor(state / 2 ** 16)]);
      });
      views.u16(ptr + 16, words.length).set(words);
      return byteCount;
    },

    decodeRange(codesPtr, modelsPtr, bytesPtr, byteCount, wideCount, narrowCount, tokenCount, codeStride) {
      if (byteCount < 16) return -1;
      const codes = views.u8(codesPtr, (wideCount + narrowCount) * codeStride);
      const words = views.u16(bytesPtr, byteCount >> 1);
      const states = Array.from({ length: 4 }, (_, i) => words[2 * i] + 2 ** 16 * words[2 * i + 1]);
      let [next, k] = [8, 0];
      let isShort = false;
      walk(codes, modelsPtr, wideCount, narrowCount, tokenCount, codeStride, (model) => {
        const slot = states[k % 4] % RANGE_TOTAL;
        const nibble = model.below.reduce((last, below, i) => (below <= slot ? i : last), 0);
        if (isShort) return nibble;
        const { below, own } = shareOf(model, nibble);
        let state = own * Math.floor(states[k % 4] / RANGE_TOTAL) + slot - below;
        if (state < LEAST_STATE) {
          isShort = next >= words.length;
          state = state * 2 ** 16 + words[next++];
        }
        states[k++ % 4] = state;
        return nibble;
      });
      const isEnd = 2 * next === byteCount && states.every((state) => state === LEAST_STATE);
      return isEnd && !isShort ? 0 : -1;
    },
  };
};
