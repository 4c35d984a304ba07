/** Options of the codec that several commands take. */
import { Option } from "commander";
import { DEFAULT_OPTIONS } from "../codec/options.ts";

export const groupingOption = (): Option =>
  new Option("--grouping <heads>", "kv heads that share a basis: all of a layer, or each head alone")
    .choices(["layer", "head"])
    .default(DEFAULT_OPTIONS.grouping);

export const basesOfArchiveOption = (): Option =>
  new Option("--profile <file>", "the profile on whose bases the archive is coded, where it is");
