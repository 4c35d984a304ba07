/** What an evaluation asks of a language model: one sequence, its state as a file, probabilities of next tokens. */

export interface EvalEngine {
  /** Ids of a text, its special tokens taken as plain text, with the model's own first token where it has one. */
  tokenize(text: string): number[];
  /** Empties the sequence. */
  clear(): Promise<void>;
  /** Appends tokens to the sequence. */
  feed(tokens: number[]): Promise<void>;
  /** Appends tokens; after each, probabilities of all tokens to come next (vocabulary), adding up to about 1. */
  score(tokens: number[]): Promise<Float32Array[]>;
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
