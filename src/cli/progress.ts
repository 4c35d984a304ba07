/** A bar on a terminal, nothing elsewhere. */
import { SingleBar } from "cli-progress";
import type { Io } from "./io.ts";

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
