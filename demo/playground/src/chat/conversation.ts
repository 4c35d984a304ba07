/**
 * A chat and the cache of its tokens. What a cache holds is never computed again: a turn prefills what lies behind it,
 * in chunks, so that work can be stopped, and a stopped chunk leaves a cache of what was done.
 */
import { encodeArchive } from "../../../../src/archive/writer.ts";
import { joinChunks } from "../../../../src/codec/chunks.ts";
import type { WorkOptions } from "../../../../src/codec/compress.ts";
import { compressCache, modelOf, restoreCache } from "../../../../src/engines/transformers-js.ts";
import type { Runtime } from "../../../../src/runtime/runtime.ts";
import type { Cache, Loaded } from "./engine.ts";
import type { Message, Turn } from "./messages.ts";

/** Tokens computed between two looks at the signal. */
const CHUNK = 64;
/** Fewer tell no rate. */
const LEAST_FOR_RATE = 32;
/** Of the last tokens these stay exact: chats are short, and caches of the CPU are f32. */
const RECENT = 16;

/** A chat as it is written down beside its cache. */
export interface Written {
  messages: Message[];
  /** The chat through the model's template, without what ends the last answer, and its tokens. */
  text: string;
  ids: number[];
  prefillTokensPerSecond: number | null;
}

export interface TurnHooks {
  signal: AbortSignal;
  most: number;
  onPiece(text: string): void;
  onPrefill(done: number, all: number): void;
}

export class Conversation {
  /** Of the model and its weights' shape; caches of another are refused. */
  readonly model: string;
  readonly #name: string;
  readonly #engine: Loaded;
  #written: Written = { messages: [], text: "", ids: [], prefillTokensPerSecond: null };
  #cache: { past: Cache; ids: number[] };

  constructor(engine: Loaded, name: string) {
    this.#engine = engine;
    this.#name = name;
    this.model = modelOf(engine.model.config, name);
    this.#cache = { past: new engine.library.DynamicCache(), ids: [] };
  }

  /** Ids of the tokens that the cache holds. */
  get held(): readonly number[] {
    return this.#cache.ids;
  }

  get written(): Written {
    return this.#written;
  }

  /** Answers; greedy, so the same cache gives the same answer. Throws the signal's reason when stopped in a prefill. */
  async say(text: string, hooks: TurnHooks): Promise<{ text: string; ids: number[]; turn: Turn }> {
    const { tokenizer } = this.#engine;
    const messages: Message[] = [...this.#written.messages, { role: "user", content: text }];
    const prompt = tokenizer.apply_chat_template(messages, { tokenize: false, add_generation_prompt: true });
    const ids = this.#idsOf(prompt);
    if (!this.#cache.ids.every((id, i) => id === ids[i])) this.#dropCache();
    const held = this.#cache.ids.length;
    const start = performance.now();
    await this.#prefill(ids, hooks);
    const [prefilled, prefillMs] = [ids.length - 1 - held, performance.now() - start];

    const all = await this.#generate(ids, hooks);
    const made = all.slice(ids.length);
    const ends = [this.#engine.model.generation_config?.eos_token_id ?? []].flat();
    const kept = ends.includes(made.at(-1) ?? -1) ? all.slice(0, -1) : all;
    const answer = tokenizer.decode(kept.slice(ids.length), { skip_special_tokens: true });
    this.#written = {
      messages: [...messages, { role: "assistant", content: answer }],
      text: prompt + answer,
      ids: kept,
      prefillTokensPerSecond:
        prefilled < LEAST_FOR_RATE ? this.#written.prefillTokensPerSecond : (1000 * prefilled) / prefillMs,
    };
    const makeMs = performance.now() - start - prefillMs;
    return { text: answer, ids: made, turn: { held, prefilled, prefillMs, made: made.length, makeMs } };
  }

  /** The archive of what the cache holds, and the bytes of the same in f16. */
  async compressed(
    runtime: Runtime,
    bits: number,
    work: WorkOptions,
  ): Promise<{ bytes: Uint8Array; f16Bytes: number }> {
    const { coded } = await compressCache(runtime, this.#cache.past, {
      config: this.#engine.model.config,
      name: this.#name,
      tokens: this.#cache.ids,
      options: { keyBits: bits, valueBits: bits, recent: RECENT },
      ...work,
    });
    const { layerCount, kvHeads, headDim } = coded.geometry;
    const f16Bytes = 2 * 2 * layerCount * kvHeads * headDim * coded.tokenCount;
    return { bytes: joinChunks(encodeArchive(coded)), f16Bytes };
  }

  /** Goes on from an archive. MismatchError and FormatError as `restoreCache`; the chat is as before then. */
  restore(runtime: Runtime, bytes: Uint8Array, written: Written): void {
    const { library, model } = this.#engine;
    const { Tensor, DynamicCache } = library;
    const past = restoreCache(runtime, bytes, { Tensor, DynamicCache, config: model.config, name: this.#name });
    this.#cache = { past, ids: written.ids.slice(0, past.get_seq_length()) };
    this.#written = written;
  }

  /** What was said keeps its tokens; only what is new is made to tokens. */
  #idsOf(prompt: string): number[] {
    const encode = (text: string) => this.#engine.tokenizer.encode(text, { add_special_tokens: false });
    const { text, ids } = this.#written;
    return text && prompt.startsWith(text) ? [...ids, ...encode(prompt.slice(text.length))] : encode(prompt);
  }

  #dropCache(): void {
    this.#cache = { past: new this.#engine.library.DynamicCache(), ids: [] };
  }

  /** All but the last token, which the answer begins with. */
  async #prefill(ids: number[], { signal, onPrefill }: TurnHooks): Promise<void> {
    const first = this.#cache.ids.length;
    const end = ids.length - 1;
    for (let to = first; to < end; ) {
      signal.throwIfAborted();
      to = Math.min(to + CHUNK, end);
      await this.#engine.model.generate({ ...this.#inputs(ids.slice(0, to)), max_new_tokens: 1 });
      this.#cache.ids = ids.slice(0, to);
      onPrefill(to - first, end - first);
      // Messages of the page are read between tasks.
      await new Promise((resolve) => setTimeout(resolve));
    }
  }

  async #generate(ids: number[], { signal, most, onPiece }: TurnHooks): Promise<number[]> {
    const { library, tokenizer, model } = this.#engine;
    const stopping = new library.InterruptableStoppingCriteria();
    const stop = () => stopping.interrupt();
    signal.addEventListener("abort", stop);
    const options = { skip_prompt: true, skip_special_tokens: true, callback_function: onPiece };
    const streamer = new library.TextStreamer(tokenizer, options);
    const limits = { max_new_tokens: most, streamer, stopping_criteria: stopping };
    const { data } = await model.generate({ ...this.#inputs(ids), ...limits });
    signal.removeEventListener("abort", stop);
    const all = Array.from(data, Number);
    this.#cache.ids = all.slice(0, this.#cache.past.get_seq_length());
    return all;
  }

  #inputs(ids: number[]): object {
    const int64 = (values: number[]) =>
      new this.#engine.library.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    return {
      input_ids: int64(ids),
      attention_mask: int64(ids.map(() => 1)),
      do_sample: false,
      past_key_values: this.#cache.past,
    };
  }
}
