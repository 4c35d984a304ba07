// tsx scripts/calibrate-kl.ts TEXT…: the constants of src/codec/expected-kl.ts by least squares on log KL of
// SmolLM2-135M through llama.cpp, in planes and at entropy, over the texts given and made ones; each setting's KL over
// what the other texts let expect. ADR 0050 names the texts and has the output. npm run eval:smollm2 brings the model.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { rangeOf } from "../src/codec/compress.ts";
import { CALIBRATION, expectedKl, klOfErrors } from "../src/codec/expected-kl.ts";
import { forecastKeys, forecastValues } from "../src/codec/forecast.ts";
import { checkOptions } from "../src/codec/options.ts";
import { spectraOf } from "../src/codec/spectra.ts";
import { readGgufModel } from "../src/engines/llama-cpp.ts";
import { serialiseLlamaState } from "../src/engines/llama-state.ts";
import { readProfile } from "../src/engines/profile.ts";
import { evaluate } from "../src/evaluation/eval/evaluate.ts";
import { type BitPair, ENDS, type EvalMethod, methodsAt } from "../src/evaluation/eval/methods.ts";
import { openNodeLlama } from "../src/evaluation/eval/node-llama-cpp.ts";
import { cutText } from "../src/evaluation/eval/text.ts";
import { TEXTS } from "../src/evaluation/texts/index.ts";
import { instantiate } from "../src/runtime/runtime.ts";

const MODEL = "models/SmolLM2-135M-Instruct.f32.gguf";
const MADE = ["code", "records", "needles"];
/** Not those of `svdq eval`. */
const FIRST_SEED = 11;
const LENGTHS = { context: 2048, continuation: 96 };

const { positionals: paths } = parseArgs({ options: {}, allowPositionals: true });

interface Setting extends BitPair {
  entropy: boolean;
  /** Others tell keys from values. */
  usual: boolean;
}

const pair = (keyBits: number, valueBits: number, entropy = false, usual = true): Setting => ({
  ...{ keyBits, valueBits, entropy, usual },
});
const SETTINGS = [
  ...[pair(0.75, 1), pair(1.25, 2), pair(2, 3), pair(8, 2, false, false), pair(1.25, 8, false, false)],
  ...[pair(0.4, 0.6, true), pair(0.75, 1.25, true), pair(1.25, 1.75, true)],
];
const nameOf = ({ keyBits, valueBits, entropy }: Setting): string =>
  `${keyBits}/${valueBits}${entropy ? " entropy" : ""}`;

/** Rounding to 8 bits costs half of it, so what is below says little of the codes; no target is. */
const LEAST_KL = 0.0005;

/** Losses that targets are likely to be. */
const USUAL = [0.002, 0.06];

/** One setting on one text. */
interface Point {
  text: string;
  setting: Setting;
  keys: number;
  values: number;
  kl: number;
}

/** No loss; takes down what the codec makes of each setting's errors. */
function recorder(found: Omit<Point, "text" | "kl">[]): EvalMethod {
  const options = checkOptions({ ...ENDS, keyBits: 4, valueBits: 4 });
  return {
    name: "exact",
    async apply(runtime, state, source, work) {
      const spectra = await spectraOf(runtime, source, options, work);
      const coded = rangeOf(source.tokenCount, ENDS).count;
      for (const setting of SETTINGS) {
        const own = { ...options, entropy: setting.entropy };
        const keys = klOfErrors(forecastKeys(spectra, own, coded, setting.keyBits).errors);
        const values = klOfErrors(forecastValues(spectra, own, coded, setting.valueBits).errors);
        found.push({ setting, keys, values });
      }
      return { bits: 16, bitsWithBasis: 16, file: serialiseLlamaState(state) };
    },
  };
}

async function pointsOf(paths: string[]): Promise<Point[]> {
  const runtime = await instantiate(new WebAssembly.Module(readFileSync("dist/kernels.wasm")));
  const [model, profile] = [await readGgufModel(MODEL), await readProfile("test/fixtures/smollm2.profile")];
  const contextSize = LENGTHS.context + LENGTHS.continuation + 16;
  const engine = await openNodeLlama({ modelPath: MODEL, contextSize, threads: 2 });
  const count = (text: string): number => engine.tokenize(text).length;
  const texts = [
    ...paths.map((path) => ({ name: basename(path), text: readFileSync(path, "utf8") })),
    ...MADE.map((name, i) => {
      const made = TEXTS.find((one) => one.name === name)!;
      return { name: `${name}, seed ${FIRST_SEED + i}`, text: made.text(FIRST_SEED + i, LENGTHS.context, count) };
    }),
  ];
  const codecs = SETTINGS.map((setting) => {
    const family = setting.entropy ? "codec entropy" : "codec layer";
    return methodsAt([setting]).find(({ name }) => name.startsWith(family))!;
  });
  const points: Point[] = [];
  for (const { name, text } of texts) {
    const found: Omit<Point, "text" | "kl">[] = [];
    const cut = [cutText(engine, name, text, LENGTHS)];
    const rows = await evaluate(runtime, engine, model, cut, [recorder(found), ...codecs], { profile });
    points.push(...found.map((point, i) => ({ ...point, text: name, kl: rows[i + 1].kl })));
    console.error(`${name}: done`);
  }
  await engine.dispose();
  return points;
}

type Constants = typeof CALIBRATION;
const expected = ({ keys, values }: Point, constants: Constants): number => expectedKl(keys, values, constants);
/** Settings that one would use count twice. */
const weightOf = ({ kl, setting }: Point): number => (kl < LEAST_KL ? 0 : setting.usual ? 2 : 1);

function loss(points: Point[], constants: Constants): number {
  const sum = points.reduce((sum, p) => sum + weightOf(p) * Math.log(p.kl / expected(p, constants)) ** 2, 0);
  return sum / points.reduce((sum, p) => sum + weightOf(p), 0);
}

/** Each constant up or down by a factor that shrinks, as long as that helps. */
function leastSquares(points: Point[]): Constants {
  let best: Constants = { keys: 1, values: 1 };
  for (let factor = 2; factor > 1.002; ) {
    const tries = (["keys", "values"] as const).flatMap((name) =>
      [factor, 1 / factor].map((by) => ({ ...best, [name]: best[name] * by })),
    );
    const better = tries.find((one) => loss(points, one) < loss(points, best));
    if (better) best = better;
    else factor = Math.sqrt(factor);
  }
  return best;
}

const points = await pointsOf(paths);
const all = leastSquares(points);
const shown = ({ keys, values }: Constants): string => `keys ${keys.toPrecision(3)}, values ${values.toPrecision(3)}`;
console.log(`constants: ${shown(all)}; set are ${shown(CALIBRATION)}`);
console.log(`root mean square of log ratios: ${Math.sqrt(loss(points, all)).toPrecision(3)}`);
console.log(`\n| text | ${SETTINGS.map(nameOf).join(" | ")} |`);
console.log(`|---|${SETTINGS.map(() => "--:").join("|")}|`);
const ratios: number[] = [];
for (const text of new Set(points.map((point) => point.text))) {
  const others = leastSquares(points.filter((point) => point.text !== text));
  const own = points.filter((point) => point.text === text);
  const ratioOf = (point: Point): number => point.kl / expected(point, others);
  const cells = own.map((point) => `${point.kl.toFixed(4)} (${ratioOf(point).toFixed(2)})`);
  const usual = own.filter((point) => point.setting.usual && point.kl > USUAL[0] && point.kl < USUAL[1]);
  ratios.push(...usual.map(ratioOf));
  console.log(`| ${text} | ${cells.join(" | ")} |`);
}
const good = ratios.filter((ratio) => ratio >= 0.5 && ratio <= 2).length;
console.log(
  `\nwithin a factor of two, KL from ${USUAL.join(" to ")}, settings one would use: ${good} of ${ratios.length}`,
);
