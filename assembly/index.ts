// The ABI: what the module exports. No logic here.

export { eigen, jacobiSvd } from "./eigen";
export { multiply, transpose } from "./matrix";
export { mean, secondMoment } from "./moments";
export { packPlanes, unpackPlanes } from "./planes";
export { project, synthesize } from "./project";
export { bookError, channelStatistics, decode, encode, prepareBook } from "./quantize";
export { rotate } from "./rotary";
export { countNonFinite, gatherRows, narrowF16, rowNorms, scaleRows, scatterRows, widenBf16, widenF16 } from "./rows";
export { softmax } from "./softmax";
export { leadingEigen } from "./subspace";

export const ABI_VERSION: i32 = 1;
export const HEAP_BASE: usize = __heap_base;
