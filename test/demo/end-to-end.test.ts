/** The service with the real model: one process uploads what another goes on from, a third adds to it. */
import { spawn } from "node:child_process";
import { describe, expect, it } from "vitest";
import { PrefixClient } from "../../demo/worker/client.ts";
import type { Outcome } from "../../demo/worker/end-to-end.ts";
import { startLocal } from "../../demo/worker/local.ts";
import { findNodeLlama } from "../../src/evaluation/eval/node-llama-cpp.ts";
import { realGguf } from "../support/real-gguf.ts";

const found = findNodeLlama();
if (!found || !realGguf) {
  const lacking = found ? "no model" : "no node-llama-cpp from the working directory or NODE_PATH";
  console.log(`left out: the prefix service with a real model (${lacking})`);
}

/** The outcome of a process of its own. */
async function run(what: "upload" | "continue" | "extend", url: string): Promise<Outcome> {
  const args = ["--import", "tsx", "demo/worker/end-to-end.ts", what, "--url", url, "--model", realGguf!, "--json"];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  const [out, err] = await Promise.all([child.stdout, child.stderr].map(async (stream) => {
    let text = "";
    for await (const part of stream) text += part;
    return text;
  })); // biome-ignore format: both at once
  const code = child.exitCode ?? (await new Promise<number>((resolve) => child.once("exit", resolve)));
  if (code !== 0) throw new Error(`${what}: expected exit code 0, got ${code}: ${err}`);
  return JSON.parse(out);
}

describe.skipIf(!found || !realGguf)("a prefix of SmolLM2", () => {
  it("goes on in another process with the tokens that the exact cache gives", async () => {
    const service = await startLocal({ storage: "durable-object", tokens: { demo: "demo-token" } });
    try {
      const exact = await run("upload", service.url);
      const restored = await run("continue", service.url);
      expect(restored.continuation).toEqual(exact.continuation);
      expect(exact.continuation).toHaveLength(24);
      expect(restored.restoredTokens).toBe(exact.promptTokens - 1);
      expect(restored.archiveBytes).toBe(exact.archiveBytes);
      expect(exact.f16Bytes / exact.archiveBytes).toBeGreaterThan(2.5);
      expect(exact.sentBytes).toBe(exact.archiveBytes);
      // A longer prompt shares what is there.
      const longer = await run("extend", service.url);
      expect(longer.promptTokens).toBeGreaterThan(exact.promptTokens + 300);
      expect(longer.restoredTokens).toBe(exact.promptTokens - 1);
      expect(longer.archiveBytes - longer.sentBytes).toBeGreaterThan(0.5 * exact.archiveBytes);
      const { bytes, bytesUnshared, prefixes } = await new PrefixClient(service.url, "demo-token").stats();
      expect([prefixes, bytesUnshared]).toEqual([2, exact.archiveBytes + longer.archiveBytes]);
      expect(bytes).toBe(exact.archiveBytes + longer.sentBytes);
    } finally {
      await service.dispose();
    }
    // Three processes, each with the model; a busy machine takes its time.
  }, 300_000);
});
