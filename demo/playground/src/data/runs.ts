/** Which latent channels of a layer are kept, with how many bits. */
import type { CodedCache, CodedGroup } from "../../../../src/codec/coded.ts";
import type { KeyBasis } from "../../../../src/codec/key-codec.ts";
import type { LayerSpectrum, WidthRun } from "../messages.ts";

/** Runs of equal width, group after group; channels past the kept ones are a run of width 0. */
export function runsOf(cache: CodedCache): WidthRun[] {
  const { headDim } = cache.geometry;
  return cache.layers.flatMap((layer, i) =>
    (["keys", "values"] as const).flatMap((part) =>
      groupRuns(layer[part], headDim).map((run) => ({ layer: cache.layerNumbers[i], part, ...run })),
    ),
  );
}

function groupRuns(groups: CodedGroup[], headDim: number): Pick<WidthRun, "first" | "count" | "width">[] {
  const runs: Pick<WidthRun, "first" | "count" | "width">[] = [];
  for (const { books, firstHead, headCount } of groups) {
    let first = firstHead * headDim;
    const end = first + headCount * headDim;
    for (let at = 0; first < end; ) {
      const width: number = books[at]?.width ?? 0;
      let count = width === 0 ? end - first : 1;
      while (width > 0 && books[at + count]?.width === width) count++;
      runs.push({ first, count, width });
      at += count;
      first += count;
    }
  }
  return runs;
}

/** Spectra of all layers; widths: bits of the kept channels, leading ones first, of each layer and group. */
export function spectraOf(layerNumbers: number[], bases: KeyBasis[][], widths: ArrayLike<number>[][]): LayerSpectrum[] {
  return bases.map((groups, i) => ({
    layer: layerNumbers[i],
    groups: groups.map(({ firstHead, headCount, basis }, j) => ({
      heads: headCount === 1 ? `head ${firstHead}` : `heads ${firstHead} to ${firstHead + headCount - 1}`,
      variance: basis.variance,
      widths: Array.from(widths[i][j]).filter((width) => width > 0),
    })),
  }));
}

/** Bits of the kept channels of the keys, of each layer and group. */
export const codedWidths = ({ layers }: CodedCache): number[][][] =>
  layers.map(({ keys }) => keys.map(({ books }) => books.map(({ width }) => width)));
