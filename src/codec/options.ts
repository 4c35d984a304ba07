/** What a caller chooses, with defaults, checked once. */
import { expectInteger, expectNumber, expectOptions } from "../errors.ts";
import { type AnchorSpan, checkSpan } from "./anchors.ts";
import type { Grouping } from "./groups.ts";
import { WIDTHS } from "./layout.ts";

export interface CodecOptions {
  /** Mean bits of a key element, over all layers. */
  keyBits: number;
  /** Mean bits of a value element: of each layer, or over all of them where the source has Fisher information. */
  valueBits: number;
  /** Heads that share a basis. */
  grouping: Grouping;
  /**
   * Keys are rotated by their offset inside a span only: 1 = before RoPE (the paper), null = after RoPE. A list has a
   * span for each rotary pair (`spansByFrequency`).
   */
  anchorSpan: AnchorSpan;
  /** The SVDq paper's mode for keys: bits of equal groups of channels, min-max codes, no metric. Replaces keyBits. */
  schedule: number[] | null;
  /**
   * One step for all channels and codes at their entropy (steps.ts), for files: fewer bits at the same loss. keyBits and
   * valueBits are then what normal channels would take, over all layers each. Not with a schedule.
   */
  entropy: boolean;
  /** Tokens kept exact at the start and at the end. */
  sinks: number;
  recent: number;
  /** Weigh errors by the model's Fisher information, or else key errors by the queries, where the source has them. */
  metric: boolean;
  /** Weigh tokens by the attention that they receive (0.2 + 0.8 a), where the source has queries and no Fisher information. */
  attentionWeights: boolean;
  /** Bits of a basis element, 3 to 12; "auto" gives each row what its channel is worth (basis-codes.ts). */
  basisBits: number | "auto";
}

export const DEFAULT_OPTIONS: CodecOptions = {
  keyBits: 1.25,
  valueBits: 2,
  grouping: "layer",
  anchorSpan: 1,
  schedule: null,
  entropy: false,
  sinks: 4,
  recent: 64,
  metric: true,
  attentionWeights: true,
  basisBits: "auto",
};

/** Fills defaults and checks every value. */
export function checkOptions(given: Partial<CodecOptions>): CodecOptions {
  expectOptions("options", given, Object.keys(DEFAULT_OPTIONS));
  const options = { ...DEFAULT_OPTIONS, ...given };
  expectNumber("keyBits", options.keyBits, 0.01, 8);
  expectNumber("valueBits", options.valueBits, 0.01, 8);
  expectInteger("sinks", options.sinks, 0, 1 << 20);
  expectInteger("recent", options.recent, 0, 1 << 20);
  if (options.grouping !== "layer" && options.grouping !== "head") {
    throw new RangeError(`grouping: expected "layer" or "head", got ${String(options.grouping)}`);
  }
  checkSpan(options.anchorSpan);
  if (options.schedule !== null) checkSchedule(options.schedule);
  if (options.entropy && options.schedule !== null) {
    throw new RangeError("entropy: expected no schedule beside it, got both");
  }
  if (options.basisBits !== "auto") expectInteger("basisBits", options.basisBits, 3, 12);
  return options;
}

function checkSchedule(schedule: number[]): void {
  if (schedule.length !== 8) throw new RangeError(`schedule: expected 8 widths, got ${schedule.length}`);
  for (const width of schedule) {
    if (!(WIDTHS as readonly number[]).includes(width)) {
      throw new RangeError(`schedule: expected widths of ${WIDTHS.join(", ")}, got ${width}`);
    }
  }
  if (!schedule.some((width) => width > 0))
    throw new RangeError("schedule: expected at least one width above 0, got none");
}
