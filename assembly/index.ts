// The ABI: what the module exports. No logic here.

export { chooseTokens, nthScore, standings, takeScores } from "./choose";
export { mixRows, scoreRows } from "./dense";
export { eigen, jacobiSvd } from "./eigen";
export { multiply, transpose } from "./matrix";
export { blockWeights, foldMix, mixPlanes } from "./mix";
export { mean, secondMoment } from "./moments";
export { gatherTokens, packPlanes, unpackPlanes } from "./planes";
export { project, synthesize } from "./project";
export { bookError, channelStatistics, decode, encode, encodeSteps, prepareBook } from "./quantize";
export { decodeRange, encodeRange, resetModels } from "./range";
export { rotate } from "./rotary";
export { countNonFinite, gatherRows, narrowF16, rowNorms, scaleRows, scatterRows, widenBf16, widenF16 } from "./rows";
export { blockMaxima, scorePlanes, scoreTables } from "./score";
export { exponentials, sampledExponentials, softmax } from "./softmax";
export { leadingEigen } from "./subspace";

// Offsets and sizes that the host compares with src/codec/layout.ts when it loads a module.
export { GROUP_NORMS, GROUP_WEIGHT_STRIDE, MIX_BLOCKS } from "./mix";
export { MOMENT_CHUNK_ROWS } from "./moments";
export { BLOCK_TOKENS, PLANE_BYTES } from "./planes";
export { BOOK_THRESHOLDS } from "./quantize";
export { MODEL_BYTES, RANGE_WINDOW } from "./range";
export { ROTARY_FREQUENCIES, ROTARY_INTERLEAVED, ROTARY_PAIR_COUNT } from "./rotary";
export { GROUP_LEVELS, GROUP_QUERY_COUNT, SET_LOW_BITS, SET_RUNS, SET_SUMS } from "./score";

export const ABI_VERSION: i32 = 1;
export { __heap_base as HEAP_BASE };
