/** `--model` of what reads no weights: a name, a config.json, or a GGUF file. */
import { open, readFile } from "node:fs/promises";
import { fileError } from "../archive/atomic-file.ts";
import type { Geometry } from "../codec/geometry.ts";
import { supportedGeometry } from "../engines/limits.ts";
import { readGgufModel } from "../engines/llama-cpp.ts";
import { shapeOfConfig } from "../engines/rope-config.ts";
import { KNOWN_MODELS } from "../evaluation/known-models.ts";
import { aboutFile, InputError, UsageError } from "./failure.ts";

export const knownNames = (): string => KNOWN_MODELS.map(({ key }) => key).join(", ");

/** Name and shape; where the name is none that is known it is a file. */
export async function modelShape(given: string): Promise<{ model: string; geometry: Geometry }> {
  const known = KNOWN_MODELS.find(({ key }) => key === given.toLowerCase());
  if (known) {
    const { key, layerCount, kvHeads, headDim } = known;
    return { model: key, geometry: { layerCount, kvHeads, headDim } };
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
