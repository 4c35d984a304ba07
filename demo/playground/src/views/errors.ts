/** Where the error is: by token of keys and values, and by query of attention. */
import * as Plot from "@observablehq/plot";
import { digits, thousands } from "../data/text.ts";
import type { TokenErrors } from "../messages.ts";
import { COLOUR, draw, type Frame, legend, type View } from "./frame.ts";

export function errorsView(frame: Frame, { layer, bins, queries }: TokenErrors): View {
  const items = [
    { colour: COLOUR.keys, text: "keys" },
    { colour: COLOUR.values, text: "values" },
  ];
  const rows = bins.flatMap(({ token, keys, values }) => [
    { token, part: "keys", error: keys },
    { token, part: "values", error: values },
  ]);
  const svg = draw(frame, `Relative error of keys and values by token, layer ${layer}`, {
    height: 200,
    x: { label: "token →" },
    y: { label: "↑ |x − x′|² / |x|²", grid: true, zero: true },
    marks: [
      Plot.line(rows, {
        x: "token",
        y: "error",
        z: "part",
        curve: "step",
        stroke: ({ part }: { part: string }) => (part === "keys" ? COLOUR.keys : COLOUR.values),
      }),
      Plot.ruleY([0], { strokeOpacity: 0.4 }),
    ],
  });
  const parts: Element[] = [svg, legend(frame.document, items)];
  if (queries.length) parts.push(...queryErrors(frame, queries));
  return {
    parts,
    numbers: {
      titles: ["token", "keys", "values"],
      rows: bins.map(({ token, keys, values }) => [thousands(token), digits(keys), digits(values)]),
    },
  };
}

function queryErrors(frame: Frame, queries: TokenErrors["queries"]): Element[] {
  const rows = queries.flatMap(({ position, attentionKl, outputError }) => [
    { position, what: "attention KL, nats", error: attentionKl },
    { position, what: "output error", error: outputError },
  ]);
  const colour = ({ what }: { what: string }): string => (what === "output error" ? COLOUR.coded : COLOUR.exact);
  const svg = draw(frame, "Attention KL and output error by query, means over the heads", {
    height: 180,
    x: { label: "position of the query →" },
    y: { label: "↑ mean over the heads", grid: true, zero: true },
    marks: [
      Plot.line(rows, { x: "position", y: "error", z: "what", stroke: colour }),
      Plot.ruleY([0], { strokeOpacity: 0.4 }),
    ],
  });
  const items = ["attention KL, nats", "output error"].map((what) => ({ colour: colour({ what }), text: what }));
  return [svg, legend(frame.document, items)];
}
