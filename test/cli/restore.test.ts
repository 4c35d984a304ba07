/** `svdq restore`: what it writes can be read, inspected and compressed again. */
import { beforeEach, describe, expect, it } from "vitest";
import { writeArchive } from "../../src/archive/writer.ts";
import { compress } from "../../src/codec/compress.ts";
import type { CacheSource } from "../../src/codec/source.ts";
import { type Dump, openDump } from "../../src/engines/dump.ts";
import { instantiate } from "../../src/runtime/runtime.ts";
import { testDirectory } from "../support/directory.ts";
import { noise } from "../support/noise.ts";
import { releaseModule } from "../support/platforms.ts";
import { FIXTURE, svdq, svdqJson } from "./cli.ts";

const pathOf = testDirectory();
let [archive, out] = ["", ""];

beforeEach(async () => {
  [archive, out] = [pathOf("cache.svdq"), pathOf("out.safetensors")];
  await svdqJson("compress", FIXTURE, "-o", archive);
});

async function withDumps<T>(work: (original: Dump, restored: Dump) => Promise<T>): Promise<T> {
  const [original, restored] = [await openDump(FIXTURE), await openDump(out)];
  try {
    return await work(original, restored);
  } finally {
    await Promise.all([original.close(), restored.close()]);
  }
}

describe("restore", () => {
  it.each([["f16"], ["f32"]])("writes the cache again as %s", async (type) => {
    const result = await svdqJson("restore", archive, "-o", out, "--type", type);
    expect(result).toMatchObject({ input: archive, output: out, type, tokens: 1664, layerNumbers: [5, 20] });
    await withDumps(async (original, restored) => {
      expect(restored.geometry).toEqual(original.geometry);
      expect(restored.rotary).toEqual(original.rotary);
      expect(restored.layerNumbers).toEqual(original.layerNumbers);
      expect(restored.model).toBe(original.model);
      expect(restored.tokens).toEqual(original.tokens);
      expect([restored.tokenCount, restored.heldTokens]).toEqual([1664, 1664]);
      expect((await restored.key(0)).type).toBe(type);
    });
  });

  it("brings sinks and recent tokens back bit for bit", async () => {
    await svdqJson("restore", archive, "-o", out);
    await withDumps(async (original, restored) => {
      for (const part of ["key", "value"] as const) {
        const [a, b] = [(await original[part](1)).bytes, (await restored[part](1)).bytes];
        const [headBytes, tokenBytes] = [1664 * 128, 128];
        for (let head = 0; head < 3; head++) {
          const of = (bytes: Uint8Array, from: number, to: number) =>
            Buffer.from(bytes.subarray(head * headBytes + from * tokenBytes, head * headBytes + to * tokenBytes));
          expect(of(a, 0, 4).equals(of(b, 0, 4))).toBe(true);
          expect(of(a, 1600, 1664).equals(of(b, 1600, 1664))).toBe(true);
          expect(of(a, 4, 1600).equals(of(b, 4, 1600))).toBe(false);
        }
      }
    });
  });

  it("writes what inspect and compress read", async () => {
    await svdqJson("restore", archive, "-o", out);
    expect(await svdqJson("inspect", out)).toMatchObject({ kind: "dump", tokens: 1664, tokenIds: true });
    const again = pathOf("again.svdq");
    expect(await svdqJson("compress", out, "-o", again)).toMatchObject({ model: "SmolLM2-135M-Instruct" });
  });

  it("says in words what it wrote", async () => {
    const { code, stdout, stderr } = await svdq(["restore", archive, "-o", out]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^to +.*out\.safetensors: 2,56\d,\d{3} bytes, f16, in /m);
  });

  it("refuses f16 for numbers beyond it, and writes f32", async () => {
    await writeArchive(archive, await compress(await instantiate(releaseModule()), largeCache()));
    const { code, stderr } = await svdq(["restore", archive, "-o", out]);
    expect(code).toBe(3);
    expect(stderr).toContain("layers.7.value: expected numbers up to 65504 for f16");
    await svdqJson("restore", archive, "-o", out, "--type", "f32");
  });
});

/** One layer without model, token ids or rotary pairs, whose values are beyond f16. */
function largeCache(): CacheSource {
  const count = 2 * 100 * 32;
  const tensor = (scale: number) => async () => ({
    type: "f32" as const,
    bytes: new Uint8Array(noise(count).map((x) => scale * x).buffer),
  });
  return {
    geometry: { layerCount: 1, kvHeads: 2, headDim: 32 },
    rotary: { layout: "half-split", frequencies: new Float64Array(0) },
    tokenCount: 100,
    layerNumbers: [7],
    model: "",
    key: tensor(1),
    value: tensor(1e6),
  };
}
