/** The settings' ranges, as the controls offer them. */
import type { AnchorSpan } from "../../../src/codec/anchors.ts";
import { DEFAULT_OPTIONS } from "../../../src/codec/options.ts";
import type { Settings } from "./messages.ts";

export const KEY_BITS = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6];
export const VALUE_BITS = KEY_BITS;
export const SPANS: AnchorSpan[] = [1, 8, 32, 64, 128, 256, 512, 1024, null];
export const BUDGETS: (number | null)[] = [null, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32];
export const SINKS = [0, 1, 2, 4, 8, 16, 32, 64];
export const RECENT = [0, 16, 32, 64, 128, 256, 512, 1024];

const { keyBits, valueBits, grouping, anchorSpan, sinks, recent } = DEFAULT_OPTIONS;
export const DEFAULT_SETTINGS: Settings = { keyBits, valueBits, grouping, anchorSpan, sinks, recent, budget: null };

/** Exact tokens at the start and at the end that leave some to code, whatever is chosen of both. */
export const sinksFor = (tokens: number): number[] => SINKS.filter((count) => count <= tokens / 4);
export const recentFor = (tokens: number): number[] => RECENT.filter((count) => count <= tokens / 2);

/** What is nearest to `wanted` in a rising list, from below. */
export const nearest = (list: number[], wanted: number): number => list.findLast((count) => count <= wanted) ?? list[0];
