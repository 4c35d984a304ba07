/** An archive as the cache that it restores to, a layer at a time. */
import type { CodedCache } from "../codec/coded.ts";
import { type RestoredLayer, restoreLayer } from "../codec/restore.ts";
import type { CacheSource, ElementType, TensorData } from "../codec/source.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { InputError } from "./failure.ts";

/** Tensors in `type`; keys and values of a layer are restored together and kept until another layer is asked for. */
export function restoredSource(runtime: Runtime, cache: CodedCache, type: ElementType): CacheSource {
  let held: { layer: number; tensors: RestoredLayer } | undefined;
  const tensor = async (layer: number, part: keyof RestoredLayer): Promise<TensorData> => {
    if (held?.layer !== layer) held = { layer, tensors: restoreLayer(runtime, cache, layer, type) };
    const bytes = held.tensors[part];
    if (type === "f16") expectNoOverflow(bytes, `layers.${cache.layerNumbers[layer]}.${part}`);
    return { type, bytes };
  };
  return { ...cache, key: (layer) => tensor(layer, "key"), value: (layer) => tensor(layer, "value") };
}

/** bf16 and f32 reach further than f16, where a number too large becomes infinity. */
function expectNoOverflow(bytes: Uint8Array, name: string): void {
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const bad = halves.findIndex((bits) => (bits & 0x7c00) === 0x7c00);
  if (bad >= 0) throw new InputError(`${name}: expected numbers up to 65504 for f16, got one beyond; use --type f32`);
}
