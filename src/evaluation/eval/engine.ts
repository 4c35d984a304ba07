/** What an evaluation asks of a language model: one sequence, its state as a file, probabilities of next tokens. */

export interface EvalEngine {
  /** Ids of a text, its special tokens taken as plain text, with the model's own first token where it has one. */
  tokenize(text: string): number[];
  /** Ids of a text that goes on in the sequence: without the model's first token. */
  tokenizePart(text: string): number[];
  detokenize(tokens: number[]): string;
  /** Empties the sequence. */
  clear(): Promise<void>;
  /** Appends tokens to the sequence. */
  feed(tokens: number[]): Promise<void>;
  /** Appends tokens; after each, probabilities of all tokens to come next (vocabulary), adding up to about 1. */
  score(tokens: number[]): Promise<Float32Array[]>;
  /**
   * Appends tokens, then up to `count` times the likeliest token to come next; stops early at the end of the model's
   * turn or where `enough` says so of the tokens so far. Returns those.
   */
  generate(tokens: number[], count: number, enough: (said: number[]) => boolean): Promise<number[]>;
  save(path: string): Promise<void>;
  /** Replaces the sequence by a saved one. */
  load(path: string): Promise<void>;
  dispose(): Promise<void>;
}

export interface EngineOptions {
  /** GGUF file. */
  modelPath: string;
  /** Tokens that the sequence must have room for. */
  contextSize: number;
  threads: number;
}

export type OpenEngine = (options: EngineOptions) => Promise<EvalEngine>;
