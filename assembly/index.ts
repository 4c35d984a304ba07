// The ABI: what the module exports. No logic here.
export { countNonFinite, gatherRows, narrowF16, rowNorms, scaleRows, scatterRows, widenBf16, widenF16 } from "./rows";
export { rotate } from "./rotary";
export { mean, secondMoment } from "./moments";
export { multiply, transpose } from "./matrix";
export { eigen, jacobiSvd } from "./eigen";
export { leadingEigen } from "./subspace";
export { project, synthesize } from "./project";
export { softmax } from "./softmax";
export { bookError, channelStatistics, decode, encode, prepareBook } from "./quantize";
export { packPlanes, unpackPlanes } from "./planes";

export const ABI_VERSION: i32 = 1;
export const HEAP_BASE: usize = __heap_base;
