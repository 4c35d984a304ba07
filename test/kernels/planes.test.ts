import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { BLOCK_TOKENS, countWidths, PLANE_BYTES, planeCount, WIDTHS, type Width } from "../../src/codec/layout.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Arena, noise, withArena } from "../support/arena.ts";
import { expectSame, sameBits } from "../support/exact.ts";
import { PLATFORMS } from "../support/platforms.ts";

/** What lies between the tokens of a channel and the next channel. */
const GAP = 0xee;

/** Codes of one head group, as the codec holds them: channels by falling width, dropped ones left out. */
interface Codes {
  widths: Width[];
  blocks: number;
  /** From channel to channel, at least 32 * blocks. */
  stride: number;
  /** (channels, stride) */
  codes: Uint8Array;
}

function codesOf(anyWidths: readonly Width[], blocks: number, gap = 0, seed = 1): Codes {
  const widths = anyWidths.filter((width) => width > 0).sort((a, b) => b - a);
  const stride = blocks * BLOCK_TOKENS + gap;
  const random = noise(widths.length * stride, seed);
  const codes = Uint8Array.from(random, (x, i) => {
    if (i % stride >= blocks * BLOCK_TOKENS) return GAP;
    return Math.floor(((x + 1) / 2) * 2 ** widths[Math.floor(i / stride)]);
  });
  return { widths, blocks, stride, codes };
}

/** The picture in src/codec/layout.ts, drawn anew: every plane a list of 32 nibbles, two nibbles a byte. */
function drawn({ widths, blocks, stride, codes }: Codes): Uint8Array {
  const bytes: number[] = [];
  for (let block = 0; block < blocks; block++) {
    const rows = widths.map((_, c) =>
      Array.from(codes.subarray(c * stride + block * 32, c * stride + block * 32 + 32)),
    );
    const ofWidth = (width: Width) => rows.filter((_, c) => widths[c] === width);
    const planes = ofWidth(8).flatMap((row) => [row.map((code) => code >> 4), row.map((code) => code & 15)]);
    planes.push(...ofWidth(4));
    for (const [width, share] of [[2, 2] as const, [1, 4] as const]) {
      const all = ofWidth(width);
      for (let first = 0; first < all.length; first += share) {
        const group = all.slice(first, first + share);
        planes.push(group[0].map((_, t) => group.reduce((nibble, row, k) => nibble + row[t] * 2 ** (width * k), 0)));
      }
    }
    for (const plane of planes) for (let i = 0; i < 16; i++) bytes.push(plane[i] + 16 * plane[i + 16]);
  }
  return Uint8Array.from(bytes);
}

/** Planes of the codes, and codes of the planes. */
function roundTrip(runtime: Runtime, arena: Arena, { widths, blocks, stride, codes }: Codes) {
  const counts = countWidths(widths);
  const { count8, count4, count2, count1 } = counts;
  const planesBytes = blocks * planeCount(counts) * PLANE_BYTES;
  const [codesPtr, planesPtr, backPtr] = [arena.put(codes), arena.out(planesBytes), arena.out(codes.length)];
  runtime.kernels.packPlanes(planesPtr, codesPtr, count8, count4, count2, count1, blocks, stride);
  runtime.kernels.unpackPlanes(backPtr, planesPtr, count8, count4, count2, count1, blocks, stride);
  return { planes: arena.u8(planesPtr, planesBytes), back: arena.u8(backPtr, codes.length) };
}

/** Every mixture of up to two, two, three and five channels: each last plane empty, part full and full. */
const MIXTURES: Width[][] = [0, 1, 2].flatMap((count8) =>
  [0, 1, 2].flatMap((count4) =>
    [0, 1, 2, 3].flatMap((count2) =>
      [0, 1, 2, 3, 4, 5].map((count1) => [
        ...new Array<Width>(count8).fill(8),
        ...new Array<Width>(count4).fill(4),
        ...new Array<Width>(count2).fill(2),
        ...new Array<Width>(count1).fill(1),
      ]),
    ),
  ),
);

describe.each(PLATFORMS)("planes on $name", ({ create }) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await create();
  });

  function expectDrawn(input: Codes): void {
    const { planes, back } = withArena(runtime, (arena) => roundTrip(runtime, arena, input));
    expectSame(planes, drawn(input), "planes");
    expectSame(back, input.codes, "unpack(pack(x)) = x, the gaps left alone");
  }

  it("lay out every mixture of widths as drawn, and give the codes back", () => {
    for (const widths of MIXTURES) expectDrawn(codesOf(widths, 2, 32));
  });

  it.each([0, 1, 2, 3, 5, 8, 9])("take %i blocks", (blocks) => {
    for (const gap of [0, 32, 96]) expectDrawn(codesOf([8, 4, 4, 2, 2, 2, 1, 1, 1, 1, 1], blocks, gap, blocks + 1));
  });

  it("hold what the allocation asks for: any widths, dropped channels among them", () => {
    const input = fc.record({
      widths: fc.array(fc.constantFrom(...WIDTHS), { maxLength: 24 }),
      blocks: fc.integer({ min: 0, max: 4 }),
      gap: fc.constantFrom(0, 32),
      seed: fc.integer({ min: 1, max: 1000 }),
    });
    const check = ({ widths, blocks, gap, seed }: { widths: Width[]; blocks: number; gap: number; seed: number }) =>
      expectDrawn(codesOf(widths, blocks, gap, seed));
    fc.assert(fc.property(input, check), { numRuns: 50 });
  });

  it.each([
    ["zeros", 0],
    ["the greatest codes", 255],
  ])("keep %s apart: no code spills into its neighbours", (_, code) => {
    const input = codesOf([8, 8, 4, 4, 2, 2, 2, 1, 1, 1, 1, 1], 1);
    input.codes.forEach((_, i) => {
      const width = input.widths[Math.floor(i / input.stride)];
      // Every other channel holds zeros, so that a bit that strays is seen.
      input.codes[i] = Math.floor(i / input.stride) % 2 ? 0 : code & (2 ** width - 1);
    });
    expectDrawn(input);
  });

  it("split blocks hold the same bytes as one run over all", () => {
    const whole = codesOf([8, 4, 2, 1, 1], 3);
    const { planes } = withArena(runtime, (arena) => roundTrip(runtime, arena, whole));
    const parts = [0, 1, 2].flatMap((block) => {
      const codes = whole.codes.filter((_, i) => Math.floor((i % whole.stride) / BLOCK_TOKENS) === block);
      const part = { widths: whole.widths, blocks: 1, stride: BLOCK_TOKENS, codes };
      return Array.from(withArena(runtime, (arena) => roundTrip(runtime, arena, part)).planes);
    });
    expect(Array.from(planes)).toEqual(parts);
  });
});

/** Random blocks of `planes` planes, and codes of tokens behind those, in no order in memory. */
function blocksIn(arena: Arena, { blocks, planes, codeBytes }: Gathering): { ptr: number; bytes: Uint8Array }[] {
  const size = PLANE_BYTES * planes + codeBytes;
  const made = Array.from({ length: blocks }, (_, block) => {
    const bytes = Uint8Array.from(noise(size, block + 1), (x) => 128 + 128 * x);
    return { ptr: arena.put(bytes), bytes };
  });
  return [...made.slice(1), ...made.slice(0, 1)];
}

interface Gathering {
  blocks: number;
  planes: number;
  codeBytes: number;
  tokens: number[];
}

function gather(runtime: Runtime, arena: Arena, input: Gathering) {
  const { planes, codeBytes, tokens } = input;
  const blocks = blocksIn(arena, input);
  const outBytes = Math.ceil(tokens.length / 32) * (PLANE_BYTES * planes + codeBytes);
  const outPtr = arena.out(outBytes);
  const listPtr = arena.put(Uint32Array.from(blocks, ({ ptr }) => ptr));
  const tokensPtr = arena.put(Uint32Array.from(tokens));
  runtime.kernels.gatherTokens(outPtr, listPtr, tokensPtr, tokens.length, planes, codeBytes);
  return { blocks: blocks.map(({ bytes }) => bytes), out: arena.u8(outPtr, outBytes) };
}

/** Nibble of a token in a plane of a block, two a byte as the layout draws them. */
const nibbleOf = (block: Uint8Array, at: number, token: number): number =>
  token < 16 ? block[at + token] % 16 : Math.floor(block[at + token - 16] / 16);

const GATHERINGS: Record<string, Gathering> = {
  "no tokens": { blocks: 1, planes: 3, codeBytes: 32, tokens: [] },
  "one token": { blocks: 3, planes: 4, codeBytes: 0, tokens: [77] },
  "no planes, codes alone": { blocks: 2, planes: 0, codeBytes: 32, tokens: [3, 40, 63] },
  "every token of some blocks": { blocks: 2, planes: 2, codeBytes: 32, tokens: [...Array(64).keys()] },
  "scattered tokens": {
    ...{ blocks: 9, planes: 7, codeBytes: 32 },
    tokens: Array.from({ length: 71 }, (_, i) => 4 * i + (i % 3)),
  },
  "the same token twice, and out of order": { blocks: 4, planes: 1, codeBytes: 32, tokens: [127, 5, 5, 16] },
};

describe.each(PLATFORMS)("gatherTokens on $name", ({ create }) => {
  it.each(Object.entries(GATHERINGS))("puts %s into blocks of their own", async (_, input) => {
    const { planes, codeBytes, tokens } = input;
    const runtime = await create();
    const { blocks, out } = withArena(runtime, (arena) => gather(runtime, arena, input));
    const outBytes = PLANE_BYTES * planes + codeBytes;
    const expected = new Uint8Array(out.length);
    tokens.forEach((token, i) => {
      const from = blocks[token >> 5];
      const to = expected.subarray((i >> 5) * outBytes);
      for (let plane = 0; plane < planes; plane++) {
        const nibble = nibbleOf(from, 16 * plane, token % 32);
        to[16 * plane + (i % 16)] += nibble * (i % 32 < 16 ? 1 : 16);
      }
      if (codeBytes) to[16 * planes + (i % 32)] = from[16 * planes + (token % 32)];
    });
    expectSame(out, expected);
  });
});

describe("planes everywhere", () => {
  it.each(Object.entries(GATHERINGS))("gathers the same bytes as the twin: %s", async (_, input) => {
    const same = await sameBits();
    same((runtime, arena) => [gather(runtime, arena, input).out]);
  });

  it("are the same bytes as the twins', whatever bytes are unpacked", async () => {
    const same = await sameBits();
    for (const widths of MIXTURES) {
      const input = codesOf(widths, 3, 32, 9);
      same((runtime, arena) => {
        const { planes, back } = roundTrip(runtime, arena, input);
        return [planes, back];
      });
    }
    // Planes read from a file may hold anything in the free places of a last plane.
    const counts = { count8: 1, count4: 1, count2: 3, count1: 5 };
    const planes = Uint8Array.from(noise(2 * planeCount(counts) * PLANE_BYTES, 4), (x) => 128 + 128 * x);
    const [codes] = same((runtime, arena) => {
      const [planesPtr, codesPtr] = [arena.put(planes), arena.out(10 * 64)];
      runtime.kernels.unpackPlanes(codesPtr, planesPtr, 1, 1, 3, 5, 2, 64);
      return [arena.u8(codesPtr, 10 * 64)];
    });
    expect(Math.max(...Array.from(codes).slice(2 * 64)), "codes of 2 and 1 bits").toBe(3);
  });
});
