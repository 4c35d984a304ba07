/**
 * The least-squares scalar quantizers of a unit normal: S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf.
 * Theory 28 (1982); J. Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6 (1960).
 * Made by scripts/make-lloyd-max.mjs; do not edit.
 */
export interface ScalarQuantizer {
  /** Levels (2^bits), rising, symmetric about 0. The nearest level is the code. */
  readonly centroids: Float64Array;
  /** Mean squared error on a unit normal. */
  readonly distortion: number;
}

/** From the positive levels, rising. */
function quantizer(distortion: number, positive: number[]): ScalarQuantizer {
  const negative = positive.map((x) => -x).reverse();
  return { centroids: Float64Array.from([...negative, ...positive]), distortion };
}

/** By bits. */
// biome-ignore format: the table is easier to read in columns
export const LLOYD_MAX: Readonly<Record<1 | 2 | 3 | 4 | 5 | 6, ScalarQuantizer>> = {
  1: quantizer(0.363380227632, [0.797884560803]),
  2: quantizer(0.117481847829, [0.452780034636, 1.510417608499]),
  3: quantizer(0.034547760789, [0.245094178944, 0.756005281206, 1.343909278505, 2.151945704537]),
  4: quantizer(0.009501008008, [
    0.128395029851, 0.38804829949, 0.656759118532, 0.942340456487, 1.256231197347, 1.618046386022,
    2.069017226531, 2.732589570995,
  ]),
  5: quantizer(0.002504668356, [
    0.065889659771, 0.198051829669, 0.33137830576, 0.466699522977, 0.604933624009, 0.747135703688,
    0.894565117388, 1.048783319923, 1.211804380609, 1.386340339586, 1.576228078612, 1.787233217703,
    2.028728399395, 2.317739404194, 2.691119577376, 3.260732493401,
  ]),
  6: quantizer(0.000644239665, [
    0.03340950637, 0.100278289304, 0.167296903369, 0.234566985336, 0.302192846372, 0.370282645259,
    0.438949671659, 0.508313780898, 0.578503030519, 0.649655581063, 0.721921940569, 0.795467655841,
    0.870476586544, 0.947154944743, 1.025736349077, 1.106488239537, 1.189720141861, 1.275794486433,
    1.36514101981, 1.458276374697, 1.555831224705, 1.658588900423, 1.767541882991, 1.883977240522,
    2.009611042593, 2.146810217055, 2.29898120976, 2.471304797618, 2.672273835255, 2.917406790722,
    3.240437055012, 3.744101270895,
  ]),
};
