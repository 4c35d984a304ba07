/** What the page and its worker say to each other: plain data, copied. */
import type { AnchorSpan } from "../../../src/codec/anchors.ts";
import type { KindBytes } from "../../../src/codec/bytes.ts";
import type { Geometry } from "../../../src/codec/geometry.ts";
import type { Grouping } from "../../../src/codec/groups.ts";

export interface Settings {
  keyBits: number;
  valueBits: number;
  grouping: Grouping;
  anchorSpan: AnchorSpan;
  sinks: number;
  recent: number;
  /** Part of the coded tokens to attend to; null: all. */
  budget: number | null;
}

/** What the pictures of attention are of: a layer held, a query head, a query of the file; all from 0. */
export interface Look {
  layer: number;
  head: number;
  query: number;
}

export interface NamedBlob {
  name: string;
  blob: Blob;
}

export type Request =
  | { kind: "open"; files: NamedBlob[] }
  /** Pictures of the open file. Stops the study before it; what both have in common is not computed again. */
  | { kind: "study"; study: number; settings: Settings; look: Look }
  /** Answered by `archive` with the codes of the last study. */
  | { kind: "save" }
  | { kind: "stop" };

/** What was opened. */
export interface Facts {
  name: string;
  kind: "dump" | "state" | "archive";
  model: string;
  /** What the text is, or "". */
  text: string;
  geometry: Geometry;
  /** Number in the model of each layer. */
  layerNumbers: number[];
  /** Tokens that are compressed. */
  tokens: number;
  /** With the continuation. */
  heldTokens: number;
  /** 0: no queries, and so no pictures of attention. */
  queryHeads: number;
  /** Positions of the queries. */
  firstQuery: number;
  queryCount: number;
  /** False: codes alone, nothing to compare them with. */
  exact: boolean;
  /** True where queries follow the context: quality and budgets are measured with those. */
  continued: boolean;
  /** Of an archive: how it was made. Settings but the budget change nothing then. */
  made?: Pick<Settings, "grouping" | "anchorSpan" | "sinks" | "recent">;
}

export interface GroupSpectrum {
  /** As "heads 0 to 2". */
  heads: string;
  /** Variance of each latent channel, falling. */
  variance: Float64Array;
  /** Bits of the kept ones, which lead. */
  widths: number[];
}

export interface LayerSpectrum {
  /** Number in the model. */
  layer: number;
  groups: GroupSpectrum[];
}

/** Channels first … first + count - 1 of a layer, of one width; 0 are those that are dropped. */
export interface WidthRun {
  layer: number;
  part: "keys" | "values";
  first: number;
  count: number;
  width: number;
}

export interface Sizes {
  bytes: Record<"keys" | "values", KindBytes>;
  bits: Record<"keys" | "values", { bits: number; bitsWithBasis: number }>;
  geometry: Geometry;
  tokens: number;
  grouping: Grouping;
  /** Tokens kept exact. */
  exactTokens: number;
  f16Bytes: number;
}

export interface AttentionPicture {
  look: Look;
  /** Number in the model. */
  layer: number;
  tokens: number;
  /** Tokens a column, queries a row. */
  columnTokens: number;
  rowQueries: number;
  columns: number;
  /** Position of the first query of each row. */
  positions: number[];
  /** (rows, columns): weight that the queries of a row give to the tokens of a column, mean over the queries. */
  exact: Float32Array;
  coded: Float32Array;
  /** The chosen query: its position, and its weights of the tokens up to it. */
  position: number;
  exactRow: Float32Array;
  codedRow: Float32Array;
}

export interface TokenErrors {
  /** Number in the model. */
  layer: number;
  /** First token of each bin, and the mean of |x - x'|^2 / |x|^2 of keys and values. */
  bins: { token: number; keys: number; values: number }[];
  /** Means over the heads. */
  queries: { position: number; attentionKl: number; outputError: number }[];
}

export interface QualityPoint {
  part: "keys" | "values";
  label: string;
  /** `curve`: the settings with other bits; `now`: the settings; `peer`: another codec. */
  family: "curve" | "now" | "peer";
  /** With everything counted. */
  bits: number;
  error: number;
}

export interface BudgetPoint {
  /** Part of the coded tokens; 1: all. */
  budget: number;
  now: boolean;
  outputError: number;
  attendedWeight: number;
  /** A token and all layers. */
  bytesRead: number;
  bytesReadF16: number;
}

export type Picture =
  | { kind: "spectrum"; layers: LayerSpectrum[] }
  | { kind: "allocation"; runs: WidthRun[] }
  | { kind: "sizes"; sizes: Sizes }
  | { kind: "attention"; picture: AttentionPicture }
  | { kind: "errors"; errors: TokenErrors }
  | { kind: "quality"; points: QualityPoint[] }
  | { kind: "budget"; points: BudgetPoint[] };

export type PictureKind = Picture["kind"];

export type Answer =
  | { kind: "opened"; facts: Facts }
  | { kind: "refused"; message: string }
  | { kind: "progress"; study: number; text: string; part: number }
  | ({ study: number } & Picture)
  | { kind: "done"; study: number; milliseconds: number }
  | { kind: "stopped"; study: number }
  | { kind: "failed"; study: number; message: string }
  | { kind: "archive"; name: string; bytes: Uint8Array };
