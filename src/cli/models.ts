/** `--model` of what reads no weights: a name, a config.json, or a GGUF file. */
import { open, readFile } from "node:fs/promises";
import { fileError } from "../archive/atomic-file.ts";
import type { Geometry } from "../codec/geometry.ts";
import { supportedGeometry } from "../engines/limits.ts";
import { readGgufModel } from "../engines/llama-cpp.ts";
import { shapeOfConfig } from "../engines/rope-config.ts";
import { aboutFile, InputError, UsageError } from "./failure.ts";

/** Layers, kv heads, head dim, as the models' own configs have them. */
const KNOWN: Record<string, [number, number, number]> = {
  "smollm2-135m": [30, 3, 64],
  "smollm2-360m": [32, 5, 64],
  "smollm2-1.7b": [24, 32, 64],
  "tinyllama-1.1b": [22, 4, 64],
  "llama-3.2-1b": [16, 8, 64],
  "llama-3.2-3b": [28, 8, 128],
  "llama-3.1-8b": [32, 8, 128],
  "llama-3.1-70b": [80, 8, 128],
  "mistral-7b-v0.3": [32, 8, 128],
  "qwen2.5-0.5b": [24, 2, 64],
  "qwen2.5-1.5b": [28, 2, 128],
  "qwen2.5-7b": [28, 4, 128],
  "qwen3-0.6b": [28, 8, 128],
  "qwen3-4b": [36, 8, 128],
  "qwen3-8b": [36, 8, 128],
};

export const knownNames = (): string => Object.keys(KNOWN).join(", ");

/** Name and shape; where the name is none that is known it is a file. */
export async function modelShape(given: string): Promise<{ model: string; geometry: Geometry }> {
  const known = KNOWN[given.toLowerCase()];
  if (known) {
    const [layerCount, kvHeads, headDim] = known;
    return { model: given.toLowerCase(), geometry: { layerCount, kvHeads, headDim } };
  }
  if (given.endsWith(".json")) return { model: given, geometry: await shapeOfFile(given) };
  if (!(await exists(given))) {
    throw new UsageError(`--model: expected a GGUF file, a config.json or one of ${knownNames()}; got "${given}"`);
  }
  return aboutFile(given, async () => {
    const { model, geometry } = await readGgufModel(given);
    return { model: model.split("#")[0], geometry };
  });
}

async function shapeOfFile(path: string): Promise<Geometry> {
  const text = await readFile(path, "utf8").catch((cause) => {
    throw fileError("read", path, cause);
  });
  try {
    const { layers, kvHeads, headDim } = shapeOfConfig(JSON.parse(text));
    return supportedGeometry({ layerCount: layers, kvHeads, headDim });
  } catch (cause) {
    throw new InputError(`${path}: ${(cause as Error).message}`, { cause });
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await (await open(path, "r")).close();
    return true;
  } catch {
    return false;
  }
}
