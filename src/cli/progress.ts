/** A bar on a terminal, nothing elsewhere. */
import { SingleBar } from "cli-progress";
import { weighsValues } from "../codec/metric-data.ts";
import type { CodecOptions } from "../codec/options.ts";
import type { CacheSource } from "../codec/source.ts";
import type { Io } from "./io.ts";

/**
 * Phases of `compress`: analysis of keys, coding of keys, coding of values; where layers share a step or bits, values
 * are analysed before too.
 */
export const phasesOf = (
  options: Pick<CodecOptions, "entropy" | "metric" | "schedule">,
  source: CacheSource,
): number => (options.entropy || weighsValues(source, options) ? 4 : 3);

export interface ProgressBar {
  /** One of `total` steps is done. */
  step(text: string): void;
}

/** Shows a bar while `work` runs, and takes it away however that ends. */
export async function withProgress<T>(
  io: Pick<Io, "stderr">,
  total: number,
  work: (bar: ProgressBar) => Promise<T>,
): Promise<T> {
  if (!io.stderr.isTTY) return work({ step: () => undefined });
  const bar = new SingleBar({
    stream: io.stderr,
    format: "{bar} {value}/{total} {text}",
    barsize: 24,
    barCompleteChar: "=",
    barIncompleteChar: "-",
    hideCursor: true,
    clearOnComplete: true,
    gracefulExit: false,
  });
  bar.start(total, 0, { text: "" });
  try {
    // The work holds the thread between steps, so the bar's own timer comes too late.
    return await work({
      step: (text) => {
        bar.increment({ text });
        bar.render();
      },
    });
  } finally {
    bar.stop();
  }
}
