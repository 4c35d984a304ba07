/** `svdq cost`: bytes by hand, ours against a real archive, prices, models by name and by file, bad input. */
import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { testDirectory } from "../support/directory.ts";
import { ggufBytes, llamaKeys } from "../support/tiny-gguf.ts";
import { FIXTURE, svdq, svdqJson } from "./cli.ts";

const pathOf = testDirectory();
const LLAMA = ["cost", "--model", "Llama-3.1-8B", "--tokens", "8192"];
/** The shape of the repository's dump. */
const CONFIG = { num_attention_heads: 9, num_key_value_heads: 3, num_hidden_layers: 2, head_dim: 64 };

function configFile(config: object = CONFIG): string {
  writeFileSync(pathOf("config.json"), JSON.stringify(config));
  return pathOf("config.json");
}

describe("cost", () => {
  it("counts f16 and q8_0 as they are, and the traffic of codes as planes hold them", async () => {
    const { geometry, costs, prefillSeconds } = await svdqJson(...LLAMA);
    expect(geometry).toEqual({ layerCount: 32, kvHeads: 8, headDim: 128 });
    expect(prefillSeconds).toBeNull();
    const [f16, q8, ours] = costs;
    const elements = 32 * 8 * 128 * 8192;
    expect(f16).toMatchObject({ format: "f16", keyBytes: 2 * elements, valueBytes: 2 * elements, ratio: 1 });
    expect(f16).toMatchObject({ keyTraffic: 2 * elements, totalBytes: 4 * elements, loadSeconds: null });
    expect(q8.keyBytes).toBe((34 / 32) * elements);
    expect(ours.format).toBe("svdq K 1.25 V 2");
    // 1,024 elements at 1.25 bits, 254 blocks of 32 tokens; 68 exact tokens in f32.
    expect(ours.keyTraffic).toBe(32 * (((1.25 * 1024) / 8) * 254 * 32 + 68 * 1024 * 4));
    expect(ours.valueTraffic).toBe(32 * (((2 * 1024) / 8 + 1) * 254 * 32 + 68 * 1024 * 4));
  });

  it.each([
    { flags: [], tokens: 1664 },
    { flags: ["--key-bits", "2", "--value-bits", "3"], tokens: 1664 },
    { flags: ["--grouping", "head"], tokens: 1664 },
    { flags: ["--key-bits", "0.75", "--value-bits", "1"], tokens: 1700 },
  ])("is within 5 % of a real archive: $flags", async ({ flags, tokens }) => {
    const archive = pathOf("real.svdq");
    const { totalBytes } = await svdqJson("compress", FIXTURE, "-o", archive, "--tokens", String(tokens), ...flags);
    const { costs } = await svdqJson("cost", "--model", configFile(), "--tokens", String(tokens), ...flags);
    expect(Math.abs(costs[2].totalBytes / totalBytes - 1)).toBeLessThan(0.05);
  });

  it("multiplies sessions by what you pay", async () => {
    const prices = ["--price-per-gb-month", "0.02", "--price-per-gb-egress", "0.09", "--months", "3", "--loads", "10"];
    const rates = ["--prefill-tokens-per-second", "4096", "--bandwidth", "100"];
    const { costs, prefillSeconds } = await svdqJson(...LLAMA, "--sessions", "1000", ...prices, ...rates);
    expect(prefillSeconds).toBe(2);
    for (const { keyBytes, valueBytes, totalBytes, loadSeconds, storageMoney, egressMoney } of costs) {
      expect(Math.abs(totalBytes - 1000 * (keyBytes + valueBytes))).toBeLessThan(1001);
      expect(loadSeconds).toBeCloseTo((keyBytes + valueBytes) / 1e8, 6);
      expect(storageMoney).toBeCloseTo((totalBytes / 1e9) * 3 * 0.02, 6);
      expect(egressMoney).toBeCloseTo((totalBytes / 1e9) * 10 * 0.09, 6);
    }
  });

  it("prints columns of what was asked for", async () => {
    const plain = await svdq(LLAMA);
    expect(plain).toMatchObject({ code: 0, stderr: "" });
    expect(plain.stdout).toMatch(/^model +llama-3\.1-8b: 32 layers of 8 kv heads x 128$/m);
    expect(plain.stdout).toMatch(/^format +keys at rest +values at rest +keys read a token .* smaller$/m);
    const priced = await svdq([...LLAMA, "--price-per-gb-month", "0.02", "--prefill-tokens-per-second", "1000"]);
    expect(priced.stdout).toMatch(/smaller +storage$/m);
    expect(priced.stdout).toMatch(/^computed again +8\.19 s each$/m);
  });

  it("reads the shape from a GGUF file", async () => {
    writeFileSync(pathOf("model.gguf"), ggufBytes(llamaKeys(), { w: [1] }));
    const { geometry } = await svdqJson("cost", "--model", pathOf("model.gguf"), "--tokens", "100");
    expect(geometry).toEqual({ layerCount: 2, kvHeads: 2, headDim: 32 });
  });
});

describe("refused, with nothing on stdout:", () => {
  it.each<[string, string[], number, RegExp]>([
    ["a name that is none", ["--model", "gpt-9", "--tokens", "100"], 2, /--model: expected .* one of .*; got "gpt-9"/],
    ["too few tokens", ["--model", "llama-3.1-8b", "--tokens", "68"], 2, /--tokens: expected more than the 68/],
    ["no tokens", ["--model", "llama-3.1-8b"], 2, /--tokens/],
    ["negative prices", ["--model", "llama-3.1-8b", "--tokens", "99", "--price-per-gb-month", "-1"], 2, /from 0 on/],
    ["no bandwidth", ["--model", "llama-3.1-8b", "--tokens", "99", "--bandwidth", "0"], 2, /above 0/],
    ["bits past the end", ["--model", "llama-3.1-8b", "--tokens", "99", "--key-bits", "9"], 2, /--key-bits: expected/],
  ])("%s", async (_, args, code, message) => {
    const outcome = await svdq(["cost", ...args]);
    expect(outcome).toMatchObject({ code, stdout: "" });
    expect(outcome.stderr).toMatch(message);
  });

  it("a config that lacks its heads, or of a latent cache", async () => {
    const lacking = await svdq(["cost", "--model", configFile({ num_hidden_layers: 2 }), "--tokens", "100"]);
    expect(lacking).toMatchObject({ code: 3, stdout: "" });
    expect(lacking.stderr).toMatch(/config\.json: .*num_attention_heads/);
    const latent = await svdq(["cost", "--model", configFile({ ...CONFIG, kv_lora_rank: 8 }), "--tokens", "100"]);
    expect(latent.stderr).toMatch(/config\.json: config\.kv_lora_rank: expected full keys and values/);
  });
});
