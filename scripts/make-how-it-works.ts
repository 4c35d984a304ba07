// Draws the pictures of docs/how-it-works.md from the repository's real cache: npx tsx scripts/make-how-it-works.ts
import { readFileSync, writeFileSync } from "node:fs";
import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { allocateKeys, analyseAllKeys, compress } from "../src/codec/compress.ts";
import { checkOptions } from "../src/codec/options.ts";
import { openDump } from "../src/engines/dump.ts";
import { energyOf } from "../src/evaluation/spectrum.ts";
import { instantiate } from "../src/runtime/runtime.ts";

const FIXTURE = "test/fixtures/smollm2-novel.safetensors";
/** Of the fixture's two. */
const LAYER = 0;
const LEAST = 1e-3;
const INK = "#222222";
const SPANS = [
  { anchorSpan: 1, name: "before RoPE (span 1)", colour: "#0072b2" },
  { anchorSpan: 256, name: "span 256", colour: "#009e73" },
  { anchorSpan: null, name: "as cached, after RoPE", colour: "#d55e00" },
];
const { document } = parseHTML("<!doctype html><html><body></body></html>");

const runtime = await instantiate(new WebAssembly.Module(readFileSync("dist/kernels.wasm")));
const dump = await openDump(readFileSync(FIXTURE));
const { layerNumbers } = dump;

function draw(path: string, label: string, options: Plot.PlotOptions): void {
  const style = { background: "white", color: INK, fontFamily: "sans-serif", fontSize: "12px" };
  const svg = Plot.plot({
    width: 820,
    height: 360,
    marginLeft: 70,
    marginBottom: 42,
    ...{ document, style },
    ...options,
  } as never);
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  writeFileSync(path, `${svg.outerHTML}\n`);
}

/** Part of a layer's variance that the leading channels leave: what the anchor span is for. */
const spectra: { channel: number; share: number; name: string }[] = [];
for (const { anchorSpan, name } of SPANS) {
  const bases = await analyseAllKeys(
    runtime,
    dump,
    checkOptions({ anchorSpan, metric: false, attentionWeights: false }),
  );
  const { variance, energy } = bases[LAYER][0].basis;
  const { channels90, channels99 } = energyOf(variance);
  console.log(
    `layer ${layerNumbers[LAYER]}, ${name}: 90 % in ${channels90}, 99 % in ${channels99} of ${variance.length}`,
  );
  let left = energy;
  variance.forEach((v, i) => {
    left -= v;
    spectra.push({ channel: i + 1, share: Math.max(left / energy, LEAST), name });
  });
}
draw(
  "docs/spectrum.svg",
  "Share of the variance of keys that the leading latent channels leave, for three anchor spans",
  {
    x: { label: "leading latent channels, of 192 →" },
    y: {
      type: "log",
      label: "↑ share of the variance that they leave",
      grid: true,
      domain: [LEAST, 1],
      ticks: [0.001, 0.01, 0.1, 1],
      tickFormat: (share: number) => `${100 * share} %`,
    },
    color: { domain: SPANS.map(({ name }) => name), range: SPANS.map(({ colour }) => colour) },
    marks: [
      Plot.line(spectra, { x: "channel", y: "share", stroke: "name", strokeWidth: 2 }),
      Plot.text(
        SPANS.map(({ name }, i) => ({ name, place: 0.8 / 1.7 ** i })),
        { x: 120, y: "place", text: "name", fill: "name", textAnchor: "start", fontSize: 14 },
      ),
    ],
  },
);

/** Bits of each channel of both layers, by planes and at their entropy. */
const options = checkOptions({});
const bases = await analyseAllKeys(runtime, dump, options);
const widths = allocateKeys(bases, options);
const entropy = await compress(runtime, dump, { entropy: true, keyBits: 0.75, valueBits: 1.25 });
/** Channels of equal bits side by side. */
function runsOf(row: string, bits: ArrayLike<number>): { row: string; from: number; to: number; bits: number }[] {
  const runs = [];
  for (let from = 0, to = 0; from < bits.length; from = to) {
    while (to < bits.length && bits[to] === bits[from]) to++;
    runs.push({ row, from, to, bits: bits[from] });
  }
  return runs;
}
const bars = layerNumbers.flatMap((layer, l) => {
  const books = entropy.layers[l].keys[0].books;
  const steps = Array.from({ length: 192 }, (_, c) => books[c]?.width ?? 0);
  return [
    ...runsOf(`layer ${layer}, planes at 1.25 bits`, widths[l][0]),
    ...runsOf(`layer ${layer}, entropy at 0.75 bits`, steps),
  ];
});
draw("docs/allocation.svg", "Bits of the latent channels of keys in two layers", {
  ...{ height: 260, marginLeft: 190 },
  x: { label: "latent channel, strongest first →", ticks: [0, 48, 96, 144, 192], type: "linear" },
  y: { label: null },
  color: {
    ...{ type: "ordinal", domain: [8, 4, 2, 1, 0], legend: false },
    range: ["#08306b", "#2171b5", "#6baed6", "#c6dbef", "#f0f0f0"],
  },
  marks: [
    Plot.barX(bars, { x1: "from", x2: "to", y: "row", fill: "bits" }),
    Plot.text(bars, {
      ...{ x: ({ from, to }) => (from + to) / 2, y: "row", fill: ({ bits }) => (bits > 2 ? "white" : INK) },
      text: ({ bits, from, to }) => (to - from > 12 ? (bits ? `${bits} bits` : `${to - from} dropped`) : ""),
    }),
  ],
});
