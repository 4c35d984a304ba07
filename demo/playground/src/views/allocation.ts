/** Bits of every channel of every layer, as a heat map: a row a layer. */
import * as Plot from "@observablehq/plot";
import type { WidthRun } from "../messages.ts";
import { draw, type Frame, legend, type View, WIDTHS, widthColour, widthText } from "./frame.ts";

export function allocationView(frame: Frame, runs: WidthRun[]): View {
  const layers = [...new Set(runs.map(({ layer }) => layer))];
  const svg = draw(frame, `Bits of the channels of ${layers.length} layers, keys and values`, {
    height: 74 + Math.max(110, Math.min(26 * layers.length, 420)),
    marginTop: 36,
    x: { label: "latent channel, heads side by side →" },
    y: {
      type: "band",
      label: "layer",
      domain: layers,
      padding: 0.12,
      ...(layers.length > 24 && { ticks: layers.filter((_, i) => i % 4 === 0) }),
    },
    fx: { label: null, domain: ["keys", "values"], padding: 0.08 },
    marks: [
      Plot.rect(runs, {
        x1: "first",
        x2: (run: WidthRun) => run.first + run.count,
        y: "layer",
        fx: "part",
        fill: ({ width }: WidthRun) => widthColour(width),
        title: (run: WidthRun) =>
          `layer ${run.layer}, ${run.part}: ${run.count} channels from ${run.first} on, ${widthText(run.width)}`,
      }),
    ],
  });
  return {
    parts: [
      svg,
      legend(
        frame.document,
        WIDTHS.map((width) => ({ colour: widthColour(width), text: widthText(width) })),
      ),
    ],
    numbers: {
      titles: ["layer", "part", ...WIDTHS.map(widthText)],
      rows: layers.flatMap((layer) => countRows(runs, layer)),
    },
  };
}

/** Channels of each width. */
const countRows = (runs: WidthRun[], layer: number): string[][] =>
  (["keys", "values"] as const).map((part) => {
    const mine = runs.filter((run) => run.layer === layer && run.part === part);
    const count = (width: number) => mine.reduce((sum, run) => sum + (run.width === width ? run.count : 0), 0);
    return [String(layer), part, ...WIDTHS.map((width) => String(count(width)))];
  });
