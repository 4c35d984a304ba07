/** What the chat's page and its worker say to each other: plain data, copied. */

export interface Message {
  role: "user" | "assistant";
  content: string;
}

/** `beside`: a folder under models/ beside the page; `hub`: an id of Hugging Face; `folder`: files that were picked. */
export type ModelChoice =
  | { from: "beside" | "hub"; name: string }
  | { from: "folder"; name: string; files: { path: string; blob: Blob }[] };

export interface LoadChoice {
  model: ModelChoice;
  /** Which weights, as Transformers.js names them: "q4", "q8", "fp32". */
  dtype: string;
  /** Address of a copy of Transformers.js; the one beside the page unless given. */
  engine?: string;
}

export type Request =
  | ({ kind: "load" } & LoadChoice)
  /** `most`: tokens of an answer at most. */
  | { kind: "say"; text: string; most: number }
  /** Bits an element of keys and values. */
  | { kind: "save"; bits: number }
  /** The chat as it was saved, its cache from the codes. */
  | { kind: "back" }
  | { kind: "forget" }
  | { kind: "stop" };

/** A chat whose cache is kept compressed. */
export interface Saved {
  /** Tokens in the cache. */
  tokens: number;
  bits: number;
  /** Of the archive, and of the same cache in f16. */
  bytes: number;
  f16Bytes: number;
  compressMs: number;
  /** Prefill as it was measured on this machine before saving; null where too little was prefilled to tell. */
  prefillTokensPerSecond: number | null;
}

/** What an answer took: tokens that were in the cache, that were prefilled and that were made. */
export interface Turn {
  held: number;
  prefilled: number;
  prefillMs: number;
  made: number;
  makeMs: number;
}

export type Answer =
  | { kind: "progress"; text: string; part: number | undefined }
  | { kind: "loaded"; name: string; threads: number; ms: number }
  | { kind: "restored"; saved: Saved; messages: Message[]; ms: number }
  | { kind: "piece"; text: string }
  | { kind: "said"; text: string; ids: number[]; turn: Turn }
  | { kind: "saved"; saved: Saved }
  | { kind: "forgotten" }
  /** Nothing was saved for this model. */
  | { kind: "nothing" }
  | { kind: "stopped" }
  | { kind: "failed"; message: string };
