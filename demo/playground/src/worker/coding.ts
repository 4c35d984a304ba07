/** Codes of the open file under the settings. Bits of keys, of values and all else are worked out apart and kept. */
import type { CodedCache } from "../../../../src/codec/coded.ts";
import {
  analyseAllKeys,
  compressValues,
  encodeAllKeys,
  joinTensors,
  type WorkOptions,
} from "../../../../src/codec/compress.ts";
import type { KeyBasis } from "../../../../src/codec/key-codec.ts";
import { type CodecOptions, checkOptions } from "../../../../src/codec/options.ts";
import type { Runtime } from "../../../../src/runtime/runtime.ts";
import type { Settings } from "../messages.ts";
import type { Memo } from "./memo.ts";
import type { Subject } from "./subject.ts";

export interface Desk {
  runtime: Runtime;
  memo: Memo;
}

export const optionsOf = ({ budget: _, ...settings }: Settings): CodecOptions => checkOptions(settings);

/** What all but the bits depends on. */
export const shapeOf = ({ grouping, anchorSpan, sinks, recent }: Settings) => ({ grouping, anchorSpan, sinks, recent });

/** Bases of the keys; of an archive those of the keys that it restores to. */
export function basesOf({ runtime, memo }: Desk, subject: Subject, settings: Settings, work: WorkOptions) {
  // How many channels of a wide basis are looked for goes by the bits: rankFor in codec/basis.ts.
  const isWide = subject.context.geometry.kvHeads * subject.context.geometry.headDim >= 1024;
  const on = { ...shapeOf(settings), keyBits: isWide ? settings.keyBits : null };
  return memo.get("bases", on, () => analyseAllKeys(runtime, subject.context, optionsOf(settings), work));
}

export async function codesOf(
  { runtime, memo }: Desk,
  { context, coded }: Subject,
  settings: Settings,
  bases: KeyBasis[][],
  work: WorkOptions,
): Promise<CodedCache> {
  if (coded) return coded;
  const options = optionsOf(settings);
  const { grouping, sinks, recent, keyBits, valueBits } = settings;
  const keys = await memo.get("keys", { ...shapeOf(settings), keyBits }, () =>
    encodeAllKeys(runtime, context, options, bases, work),
  );
  const values = await memo.get("values", { grouping, sinks, recent, valueBits }, () =>
    compressValues(runtime, context, options, work),
  );
  return joinTensors(context, options, keys, values);
}
