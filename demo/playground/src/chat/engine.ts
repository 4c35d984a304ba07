/** Transformers.js in a worker, loaded when it is wanted: as much of it as the chat uses, and where its files are. */
import type { EngineTensor, TensorClass } from "../../../../src/engines/onnxruntime.ts";
import type { LoadChoice } from "./messages.ts";

export interface Cache {
  get_seq_length(): number;
}
export interface Tokenizer {
  chat_template?: string | null;
  encode(text: string, options: { add_special_tokens: boolean }): number[];
  decode(ids: number[], options: { skip_special_tokens: boolean }): string;
  apply_chat_template(messages: object[], options: { tokenize: false; add_generation_prompt: boolean }): string;
}
export interface Model {
  config: object;
  generation_config?: { eos_token_id?: number | number[] | null } | null;
  generate(options: object): Promise<{ data: ArrayLike<bigint> }>;
}
type FromPretrained<T> = { from_pretrained(name: string, options?: object): Promise<T> };
export interface Transformers {
  env: {
    allowLocalModels: boolean;
    allowRemoteModels: boolean;
    localModelPath: string;
    useBrowserCache: boolean;
    fetch: typeof fetch;
    backends: { onnx: { wasm: { wasmPaths?: string; numThreads?: number } } };
  };
  Tensor: TensorClass<EngineTensor> & (new (type: "int64", data: BigInt64Array, dims: number[]) => EngineTensor);
  DynamicCache: new (entries?: Record<string, EngineTensor>) => Cache;
  AutoTokenizer: FromPretrained<Tokenizer>;
  AutoModelForCausalLM: FromPretrained<Model>;
  TextStreamer: new (tokenizer: Tokenizer, options: object) => object;
  InterruptableStoppingCriteria: new () => { interrupt(): void };
}

export interface Loaded {
  library: Transformers;
  tokenizer: Tokenizer;
  model: Model;
  threads: number;
}

/** Transformers.js looks for optional files of local models only where their path is no whole address. */
const LOCAL = "models/";

/** Loads library, tokenizer and model. Throws what they throw, and an Error where there is no chat template. */
export async function loadEngine(
  { model: choice, dtype, engine }: LoadChoice,
  onProgress: (text: string, part?: number) => void,
): Promise<Loaded> {
  onProgress("Loading Transformers.js");
  const library = (await import(engine ?? new URL("engine/transformers.js", self.location.href).href)) as Transformers;
  const threads = self.crossOriginIsolated ? Math.max(1, Math.min(4, navigator.hardwareConcurrency - 1)) : 1;
  const { wasm } = library.env.backends.onnx;
  wasm.numThreads = threads;
  if (!engine) wasm.wasmPaths = new URL("engine/", self.location.href).href;
  setSource(library.env, choice);
  if (choice.from !== "hub") await expectFiles(library.env, choice.name);

  const files = new Map<string, { loaded: number; total: number }>();
  const progress_callback = ({ status, file, loaded, total }: Record<string, never>) => {
    if (status !== "progress") return;
    files.set(file, { loaded, total });
    const sum = (key: "loaded" | "total") => [...files.values()].reduce((bytes, one) => bytes + one[key], 0);
    onProgress(`Loading ${choice.name}: ${file}`, sum("loaded") / Math.max(sum("total"), 1));
  };
  const tokenizer = await library.AutoTokenizer.from_pretrained(choice.name, { progress_callback });
  if (!tokenizer.chat_template) throw new Error(`${choice.name}: expected a chat template in its tokenizer, got none`);
  const options = { dtype, device: "wasm", progress_callback };
  const model = await library.AutoModelForCausalLM.from_pretrained(choice.name, options);
  return { library, tokenizer, model, threads };
}

/** The library's own words for a file that a folder lacks name no file. */
async function expectFiles(env: Transformers["env"], name: string): Promise<void> {
  for (const file of ["config.json", "tokenizer.json", "tokenizer_config.json"]) {
    const { ok } = await env.fetch(`${LOCAL}${name}/${file}`);
    if (!ok) throw new Error(`${name}: expected ${file} in this folder, got none`);
  }
}

function setSource(env: Transformers["env"], choice: LoadChoice["model"]): void {
  const isHub = choice.from === "hub";
  env.allowRemoteModels = isHub;
  env.allowLocalModels = !isHub;
  env.useBrowserCache = isHub;
  env.localModelPath = LOCAL;
  const folder = choice.from === "folder" ? new Map(choice.files.map(({ path, blob }) => [path, blob])) : undefined;
  env.fetch = (request, init) => {
    const path = typeof request === "string" && request.startsWith(LOCAL) ? request : undefined;
    if (path === undefined) return fetch(request, init);
    if (!folder) return fetch(new URL(path, self.location.href), init);
    return Promise.resolve(answerWith(folder.get(path.slice(LOCAL.length))));
  };
}

function answerWith(file: Blob | undefined): Response {
  if (!file) return new Response(null, { status: 404 });
  return new Response(file, { headers: { "content-length": String(file.size) } });
}
