/** The worker's side: pictures of the real fixture with the numbers that the command line gives; bad files; stopping. */
import { openAsBlob, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { Answer, NamedBlob, PictureKind, Request } from "../../../demo/playground/src/messages.ts";
import { DEFAULT_SETTINGS } from "../../../demo/playground/src/settings.ts";
import { Service } from "../../../demo/playground/src/worker/service.ts";
import { decodeArchive } from "../../../src/archive/reader.ts";
import { totalBytes } from "../../../src/codec/bytes.ts";
import { PLATFORMS } from "../../support/platforms.ts";
import { TinyDump } from "../../support/tiny-dump.ts";
import { ggufBytes, llamaKeys } from "../../support/tiny-gguf.ts";
import { tinyLlama, tinyState } from "../../support/tiny-state.ts";

const FIXTURE = "test/fixtures/smollm2-novel.safetensors";
const LOOK = { layer: 1, head: 4, query: 191 };
const blobOf = (bytes: Uint8Array): Blob => new Blob([bytes as Uint8Array<ArrayBuffer>]);
const file = async (): Promise<NamedBlob> => ({ name: "novel.safetensors", blob: await openAsBlob(FIXTURE) });

function start(onAnswer: (answer: Answer, service: Service) => void = () => {}) {
  const answers: Answer[] = [];
  const service: Service = new Service(PLATFORMS[2].create({}), (answer) => {
    answers.push(answer);
    onAnswer(answer, service);
  });
  return {
    answers,
    service,
    kinds: () => answers.map(({ kind }) => kind).filter((kind) => kind !== "progress"),
    last: <K extends PictureKind | "opened" | "refused" | "archive" | "failed">(kind: K) =>
      answers.findLast((answer) => answer.kind === kind) as Extract<Answer, { kind: K }>,
    open: (...files: NamedBlob[]) => service.handle({ kind: "open", files }),
    study: (study: number, settings = {}, look = LOOK) =>
      service.handle({ kind: "study", study, settings: { ...DEFAULT_SETTINGS, ...settings }, look } satisfies Request),
  };
}

describe("a study of the real fixture", () => {
  it("gives every picture, cheap ones first, with the numbers of svdq compress, compare and attend", async () => {
    const page = start((answer, service) => {
      const isEnough =
        answer.kind === "budget" ? answer.points.length === 2 : answer.kind === "errors" && answer.study === 2;
      if (isEnough) void service.handle({ kind: "stop" });
    });
    await page.open(await file());
    expect(page.last("opened").facts).toMatchObject({ tokens: 1664, heldTokens: 1728, queryHeads: 9, continued: true });
    await page.study(1, { anchorSpan: 256, grouping: "head", budget: 1 / 4 });
    const kinds = page.kinds().filter((kind, i, all) => all.indexOf(kind) === i);
    expect(kinds).toEqual([
      ...["opened", "spectrum", "allocation", "sizes", "attention", "errors", "quality", "budget", "stopped"],
    ]);
    const { points } = page.last("budget");
    expect(points.map(({ budget, now }) => [budget, now])).toEqual([
      [1 / 4, true],
      [1, false],
    ]);
    // docs/costs.md: svdq attend, span 256, head.
    expect(points[1].outputError).toBeCloseTo(0.0304, 4);
    const quality = page.last("quality").points;
    const [keyNow, valueNow] = quality.filter(({ family }) => family === "now");
    const keyCurve = quality.find(
      ({ family, part, label }) => family === "curve" && part === "keys" && label === "1.25",
    );
    expect(keyNow.error).toBe(keyCurve?.error);
    expect(valueNow.error).toBeLessThan(0.02);
    expect(quality.filter(({ family }) => family === "peer")).toHaveLength(14);

    // Keeps the analysis: only bits of keys change.
    await page.study(2);
    const { sizes } = page.last("sizes");
    // docs/command-line.md: svdq compress.
    expect(sizes.bytes.keys).toEqual({ codes: 96000, scales: 1164, norms: 0, basis: 32362, means: 768, exact: 52224 });
    expect(totalBytes(sizes.bytes.values)).toBe(153600 + 1848 + 3208 + 45076 + 52224);
    const { picture } = page.last("attention");
    expect(picture).toMatchObject({ layer: 20, position: 1727, tokens: 1728, look: LOOK });
    for (const row of [picture.exactRow, picture.codedRow]) {
      expect(row).toHaveLength(1728);
      expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 4);
    }
    // Each row of the map is a mean of weights that sum to one.
    const sums = picture.positions.map((_, i) =>
      picture.coded.subarray(i * picture.columns, (i + 1) * picture.columns).reduce((a, b) => a + b, 0),
    );
    for (const sum of sums) expect(sum).toBeCloseTo(1, 4);
    const { errors } = page.last("errors");
    expect(errors.queries).toHaveLength(192);
    expect(errors.bins[0].keys).toBeGreaterThan(0);
    // The last 64 tokens are exact.
    expect(errors.bins.at(-1)).toMatchObject({ keys: 0, values: 0 });
  }, 60_000);

  it("stops between pictures, and the newest study is the one that ends", async () => {
    const page = start((answer, service) => {
      if (answer.kind !== "attention" || answer.study !== 1) return;
      void service.handle({ kind: "study", study: 2, settings: { ...DEFAULT_SETTINGS, keyBits: 3 }, look: LOOK });
    });
    await page.open(await file());
    const first = page.study(1);
    await first;
    await new Promise<void>((resolve) => {
      const wait = setInterval(() => {
        if (!page.answers.some((answer) => answer.kind === "attention" && answer.study === 2)) return;
        clearInterval(wait);
        resolve();
      }, 10);
    });
    await page.service.handle({ kind: "stop" });
    expect(page.answers.filter(({ kind }) => kind === "stopped")).toEqual([
      { kind: "stopped", study: 1 },
      { kind: "stopped", study: 2 },
    ]);
    expect(page.kinds()).not.toContain("done");
    expect(page.kinds()).not.toContain("failed");
  });
});

describe("files", () => {
  it("that do not open are refused by name, and what was open stays", async () => {
    const page = start();
    const tiny = { name: "tiny.safetensors", blob: blobOf(new TinyDump({ tokens: 200 }).bytes()) };
    await page.open(tiny);
    const whole = readFileSync(FIXTURE);
    const bad: [NamedBlob[], RegExp][] = [
      [
        [{ name: "notes.txt", blob: new Blob(["once upon a time"]) }],
        /notes\.txt: expected a safetensors dump.*"once upo"/,
      ],
      [[{ name: "empty", blob: new Blob([]) }], /empty: expected .* an empty file/],
      [[{ name: "cut.safetensors", blob: blobOf(whole.subarray(0, 90_000)) }], /cut\.safetensors: .*cut short/],
      [[tiny, { ...tiny, name: "other" }], /other: expected one dump, got tiny\.safetensors too/],
      [[{ name: "m.gguf", blob: blobOf(ggufBytes(llamaKeys())) }], /m\.gguf: a model alone/],
      [[{ name: "s.bin", blob: blobOf(tinyState(tinyLlama(100))) }], /s\.bin: expected the model's GGUF/],
    ];
    for (const [files, message] of bad) {
      await page.open(...files);
      expect(page.last("refused").message).toMatch(message);
    }
    await page.study(7, {}, { layer: 0, head: 0, query: 0 });
    expect(page.kinds().at(-1)).toBe("done");
    expect(page.last("sizes").sizes.tokens).toBe(200);
  });

  it("of llama.cpp are read with the model's GGUF; without queries there is no attention", async () => {
    const page = start();
    const state = { name: "s.bin", blob: blobOf(tinyState(tinyLlama(200))) };
    await page.open({ name: "m.gguf", blob: blobOf(ggufBytes(llamaKeys())) }, state);
    expect(page.last("opened").facts).toMatchObject({ kind: "state", tokens: 200, queryCount: 0, continued: false });
    await page.study(1);
    const kinds = page.kinds().filter((kind, i, all) => all.indexOf(kind) === i);
    expect(kinds).toEqual(["opened", "spectrum", "allocation", "sizes", "errors", "done"]);
  });

  it("saved as an archive open again, alone and with their dump; another dump is refused", async () => {
    const page = start();
    const dump = { name: "tiny.safetensors", blob: blobOf(new TinyDump({ tokens: 200 }).bytes()) };
    await page.service.handle({ kind: "save" });
    expect(page.last("refused").message).toBe("nothing is compressed yet");
    await page.open(dump);
    await page.study(1, { sinks: 2, recent: 16 });
    await page.service.handle({ kind: "save" });
    const { name, bytes } = page.last("archive");
    expect(name).toBe("tiny.svdq");
    expect(decodeArchive(bytes)).toMatchObject({ tokenCount: 200, sinks: 2, recent: 16 });

    const archive = { name, blob: blobOf(bytes) };
    await page.open(archive);
    const { facts } = page.last("opened");
    expect(facts).toMatchObject({ kind: "archive", exact: false, made: { sinks: 2, recent: 16, grouping: "layer" } });
    const before = page.last("sizes").sizes.bytes;
    await page.study(2, facts.made);
    expect(page.kinds().at(-1)).toBe("done");
    expect(page.last("sizes").sizes.bytes).toEqual(before);

    await page.open(archive, dump);
    await page.study(3, facts.made);
    expect(page.last("attention").study).toBe(3);
    const other = blobOf(new TinyDump({ tokens: 100 }).bytes());
    await page.open(archive, { name: "other.safetensors", blob: other });
    expect(page.last("refused").message).toMatch(/other\.safetensors: expected .* 200 tokens .* got .* 100 tokens/);
  });

  it("with settings that make no sense fail the study and nothing else", async () => {
    const page = start();
    await page.open({ name: "t", blob: blobOf(new TinyDump({ tokens: 100 }).bytes()) });
    await page.study(1, { recent: 100 });
    expect(page.last("failed").message).toMatch(/tokens: expected at least 105/);
    await page.study(2, { recent: 16 });
    expect(page.kinds().at(-1)).toBe("done");
  });
});
