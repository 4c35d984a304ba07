/** What `svdq inspect` says of a model's profile: its parts, and which heads' errors the model feels. */
import { profileFingerprint } from "../archive/profile-rows.ts";
import { traceOf } from "../codec/fisher.ts";
import { type ModelProfile, readProfile } from "../engines/profile.ts";
import { columns, facts } from "./text.ts";

export interface ProfileInspection {
  kind: "model profile";
  model: string;
  kvHeads: number;
  headDim: number;
  /** Layers whose queries are known, and those whose Fisher information is. */
  queries: number;
  fisher: number;
  /** Fingerprint of its bases, or null. */
  bases: string | null;
  /** By layer, a number a kv head: nats of KL divergence of a squared error of 1 in each dimension of every token, twice. */
  heads: { layer: number; keys: number[]; values: number[] }[];
}

export async function inspectModelProfile(file: string): Promise<ProfileInspection> {
  const profile = await readProfile(file);
  const { model, kvHeads, headDim, moments, fisher, bases } = profile;
  return {
    ...{ kind: "model profile", model, kvHeads, headDim },
    ...{ queries: moments.size, fisher: fisher.size, bases: bases ? profileFingerprint(bases) : null },
    heads: [...fisher]
      .sort(([a], [b]) => a - b)
      .map(([layer, { keys, values }]) => ({ layer, keys: traces(keys, profile), values: traces(values, profile) })),
  };
}

const traces = (squares: Float32Array, { kvHeads, headDim }: ModelProfile): number[] =>
  Array.from({ length: kvHeads }, (_, head) => traceOf(squares, head, headDim));

export function formatModelProfile(found: ProfileInspection): string {
  const { model, kvHeads, headDim, queries, fisher, bases, heads } = found;
  const layers = (count: number): string => (count ? `of ${count} layers` : "none");
  const text = facts([
    ["model profile", `${model || "unknown model"}, ${kvHeads} kv heads x ${headDim}`],
    ["queries", layers(queries)],
    ["Fisher information", layers(fisher)],
    ["bases", bases ?? "none"],
  ]);
  if (heads.length === 0) return text;
  const titles = ["keys", "values"].flatMap((kind) => Array.from({ length: kvHeads }, (_, head) => `${kind} ${head}`));
  const lines = heads.map(({ layer, keys, values }) => [
    String(layer),
    ...[...keys, ...values].map((x) => x.toPrecision(2)),
  ]);
  return `${text}\nWhat errors of each kv head cost:\n${columns(["layer", ...titles], lines)}`;
}
