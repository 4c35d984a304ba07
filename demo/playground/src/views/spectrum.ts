/** How fast the variance of a layer's latent channels falls, and which of them are kept. */
import * as Plot from "@observablehq/plot";
import { energyOf } from "../../../../src/evaluation/spectrum.ts";
import type { LayerSpectrum } from "../messages.ts";
import { COLOUR, draw, type Frame, legend, powersOfTen, type View, WIDTHS, widthColour, widthText } from "./frame.ts";

interface Point {
  channel: number;
  share: number;
  width: number;
  group: string;
}

const LEAST_SHARE = 1e-7;

/** Dropped channels are a line here, which takes more contrast than an area does. */
const dotColour = (width: number): string => (width === 0 ? COLOUR.peer : widthColour(width));

/** Part of its layer's variance that each channel has; group after group. */
export function spectrumPoints({ groups }: LayerSpectrum): Point[] {
  const total = groups.reduce((sum, { variance }) => variance.reduce((a, b) => a + b, sum), 0) || 1;
  return groups.flatMap(({ heads, variance, widths }) =>
    Array.from(variance, (value, i) => ({
      channel: i + 1,
      share: Math.max(value / total, LEAST_SHARE),
      width: widths[i] ?? 0,
      group: heads,
    })),
  );
}

export function spectrumView(frame: Frame, layers: LayerSpectrum[], chosen: number): View {
  const layer = layers[Math.min(chosen, layers.length - 1)];
  const points = spectrumPoints(layer);
  const others = layers
    .filter((one) => one !== layer)
    .flatMap((one) => spectrumPoints(one).map((p) => ({ ...p, layer: one.layer })));
  const kept = points.filter(({ width }) => width > 0).length;
  const most = points.reduce((top, { share }) => Math.max(top, share), LEAST_SHARE);
  const label = `Spectrum of the keys of layer ${layer.layer}: ${kept} of ${points.length} latent channels are kept`;
  const svg = draw(frame, label, {
    height: 260,
    x: { label: "latent channel →", nice: true },
    y: { type: "log", label: "↑ share of the variance", grid: true, domain: [LEAST_SHARE, most * 1.5] },
    marks: [
      Plot.axisY(powersOfTen(LEAST_SHARE, most), {
        text: (d: number) => `1e${Math.round(Math.log10(d))}`,
        label: "↑ share of the variance",
      }),
      Plot.line(others, {
        x: "channel",
        y: "share",
        z: (d: { layer: number; group: string }) => `${d.layer} ${d.group}`,
        stroke: "currentColor",
        strokeOpacity: 0.18,
      }),
      Plot.line(points, { x: "channel", y: "share", z: "group", stroke: "currentColor", strokeOpacity: 0.5 }),
      Plot.dot(points, {
        x: "channel",
        y: "share",
        r: ({ width }: Point) => (width === 0 ? 1.2 : 2.6),
        fill: ({ width }: Point) => dotColour(width),
        title: (p: Point) =>
          `${p.group}, channel ${p.channel}: ${(100 * p.share).toPrecision(2)} %, ${widthText(p.width)}`,
      }),
    ],
  });
  const used = WIDTHS.filter((width) => points.some((point) => point.width === width));
  return {
    parts: [
      svg,
      legend(
        frame.document,
        used.map((width) => ({ colour: dotColour(width), text: widthText(width) })),
      ),
    ],
    numbers: {
      titles: ["layer", "group", "channels", "kept", "for 90 %", "for 99 %"],
      rows: layers.flatMap(energyRows),
    },
  };
}

const energyRows = ({ layer, groups }: LayerSpectrum): string[][] =>
  groups.map(({ heads, variance, widths }) => {
    const { channels, channels90, channels99 } = energyOf(variance);
    return [String(layer), heads, ...[channels, widths.length, channels90, channels99].map(String)];
  });
