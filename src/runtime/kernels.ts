/**
 * The contract between host and kernels: every function that a kernels module exports, under the same name, in
 * WebAssembly (assembly/) and as a plain TypeScript twin (src/reference/).
 *
 * Conventions: addresses are byte offsets in linear memory and end in `Ptr`; 0 stands for "not given" where a
 * block says so. Order: out, in…, counts…, scalars. Matrices are row-major. Unless a block says otherwise an f32
 * address is aligned to 4, an f64 address to 8, outputs do not overlap inputs, and nothing is read or written
 * outside the shapes stated. A kernel never throws, allocates or keeps anything between calls.
 */
export interface Kernels {
  // ------------------------------------------------------------------------------------------------ rows.ts
  /** IEEE half bits (count) u16 -> f32 (count). Exact. */
  widenF16(outPtr: number, bitsPtr: number, count: number): void;
  /** bfloat16 bits (count) u16 -> f32 (count). Exact. */
  widenBf16(outPtr: number, bitsPtr: number, count: number): void;
  /** f32 (count) -> IEEE half bits (count) u16, nearest even; overflow gives infinity. */
  narrowF16(outPtr: number, valuesPtr: number, count: number): void;
  /** Number of values among f32 (count) that are NaN or infinite. */
  countNonFinite(valuesPtr: number, count: number): number;
  /**
   * Copies heads side by side: out (rowCount, headCount * headDim) f32 from in, where element
   * (head, row, d) lies at `head * headStride + row * rowStride + d` elements. headDim a multiple of 4.
   */
  gatherRows(
    outPtr: number,
    inPtr: number,
    rowCount: number,
    headCount: number,
    headDim: number,
    headStride: number,
    rowStride: number,
  ): void;
  /** The way back: rows (rowCount, headCount * headDim) to the strided tensor at out. */
  scatterRows(
    outPtr: number,
    inPtr: number,
    rowCount: number,
    headCount: number,
    headDim: number,
    headStride: number,
    rowStride: number,
  ): void;
  /** norms (rowCount) f32: root mean square of each row of rows (rowCount, dim), f64 sums in order. */
  rowNorms(normsPtr: number, rowsPtr: number, rowCount: number, dim: number): void;
  /** out (rowCount, dim): each row times its factor (rowCount) f32. In place allowed. */
  scaleRows(outPtr: number, rowsPtr: number, factorsPtr: number, rowCount: number, dim: number): void;

  // ---------------------------------------------------------------------------------------------- rotary.ts
  /**
   * Rotary position embedding: rotates every head of row r by `turns[r]` positions, angle = turns * frequency.
   * Negative turns undo. rows and out (rowCount, headCount, headDim) f32, in place allowed; turns (rowCount) i32.
   * rotaryPtr: the descriptor of `layout.ts` (ROTARY): headDim, pairCount, interleaved, frequencies f64.
   * Dimensions past 2 * pairCount pass through. Angles are reduced in f64; cos and sin are rounded to f32.
   */
  rotate(
    outPtr: number,
    rowsPtr: number,
    turnsPtr: number,
    rotaryPtr: number,
    rowCount: number,
    headCount: number,
  ): void;

  // --------------------------------------------------------------------------------------------- moments.ts
  /**
   * mean (dim) f64 of rows (rowCount, dim) f32 under weights (rowCount) f32 >= 0, or equal weights if 0.
   * f64 sums in row order. Returns the total weight (zero: the mean is left at zero).
   */
  mean(meanPtr: number, rowsPtr: number, weightsPtr: number, rowCount: number, dim: number): number;
  /**
   * moment (dim, dim) f64: sum of weight * (row - centre)(row - centre)' over rows, divided by the total weight.
   * centre (dim) f32 or 0 for none. f64 sums over f32 partial sums of 32 rows.
   * scratchPtr: MOMENT_CHUNK_ROWS * roundUp(dim, 8) f32, aligned to 16.
   */
  secondMoment(
    momentPtr: number,
    rowsPtr: number,
    centrePtr: number,
    weightsPtr: number,
    scratchPtr: number,
    rowCount: number,
    dim: number,
  ): void;

  // ---------------------------------------------------------------------------------------------- matrix.ts
  /** out (rows, columns) f64 = a (rows, inner) f64 · b (inner, columns) f64; sums in order of inner. */
  multiply(outPtr: number, aPtr: number, bPtr: number, rows: number, inner: number, columns: number): void;
  /** out (columns, rows) f64 = transpose of in (rows, columns) f64. */
  transpose(outPtr: number, inPtr: number, rows: number, columns: number): void;

  // ----------------------------------------------------------------------------------------------- eigen.ts
  /**
   * Eigenvalues (n) f64, falling, and eigenvectors as rows of vectors (n, n) f64 of the symmetric matrix (n, n) f64
   * (only its lower triangle is read). Cyclic one-sided Jacobi on a pivoted Cholesky factor (Veselić and Hari 1989).
   * scratchPtr: n f64. Returns the number of sweeps, or -1 where JACOBI_MAX_SWEEPS were not enough (results are
   * then the best so far), or -2 if the matrix has a value that is not finite (outputs undefined).
   */
  eigen(valuesPtr: number, vectorsPtr: number, matrixPtr: number, scratchPtr: number, n: number): number;
  /**
   * Singular values (dim) f64, falling, and right singular vectors as rows of vectors (dim, dim) f64 of
   * rows (rowCount, dim) f64, which are destroyed: Householder QR, then cyclic one-sided Jacobi on R. The oracle for
   * `eigen`: it never squares the condition number. scratchPtr: dim f64. Returns as `eigen`.
   */
  jacobiSvd(
    singularPtr: number,
    vectorsPtr: number,
    rowsPtr: number,
    scratchPtr: number,
    rowCount: number,
    dim: number,
  ): number;
  /**
   * The leading `rank` eigenpairs of the positive semidefinite matrix (n, n) f64, for large n: subspace iteration
   * from random signs and a Rayleigh-Ritz step (Halko, Martinsson, Tropp 2011, algorithms 4.4 and 5.3).
   * values (rank + oversample) f64 and vectors (rank + oversample, n) f64; the first `rank` are the result.
   * scratchPtr: LEADING scratch of `layout.ts`. Returns as `eigen`.
   */
  leadingEigen(
    valuesPtr: number,
    vectorsPtr: number,
    matrixPtr: number,
    scratchPtr: number,
    n: number,
    rank: number,
    oversample: number,
    iterations: number,
  ): number;

  // --------------------------------------------------------------------------------------------- project.ts
  /**
   * latents (channelCount, latentStride) f32, channel-major: latents[c, t] = sum over d of
   * (rows[t, d] - centre[d]) * analysis[d, c], f32 sums in order of d. rows (rowCount, dim) f32, centre (dim) f32 or
   * 0, analysis (dim, channelCount) f32. latentStride >= rowCount elements; the rest of a channel is not written.
   */
  project(
    latentsPtr: number,
    rowsPtr: number,
    centrePtr: number,
    analysisPtr: number,
    rowCount: number,
    dim: number,
    channelCount: number,
    latentStride: number,
  ): void;
  /**
   * rows (rowCount, dim) f32: rows[t, d] = centre[d] + sum over c of latents[c, t] * synthesis[c, d], f32 sums in
   * order of c, starting from the centre (dim) f32, or 0. latents as in `project`; synthesis (channelCount, dim).
   */
  synthesize(
    rowsPtr: number,
    latentsPtr: number,
    centrePtr: number,
    synthesisPtr: number,
    rowCount: number,
    dim: number,
    channelCount: number,
    latentStride: number,
  ): void;

  // --------------------------------------------------------------------------------------------- softmax.ts
  /**
   * weights (count) f32 = exp(scale * (scores - greatest)) / sum of scores (count) f32; in place allowed. exp of the
   * kernel's own, weights below e^-87 of the greatest are 0. Returns the sum before division (f64 sums in four lanes,
   * then the tail).
   */
  softmax(weightsPtr: number, scoresPtr: number, count: number, scale: number): number;
  /** The same without the division: weights = exp(scale * (scores - greatest)); returns their sum. */
  exponentials(weightsPtr: number, scoresPtr: number, count: number, scale: number): number;
  /**
   * Sum of exp(scale * (score - from)) over an eighth of the tokens of every blockStep-th block, as far as their
   * standings lie below `least`: of block i * blockStep those from 4 * (i % 8) to 4 * (i % 8) + 3. scores and standings
   * (blockCount * 32) f32, what is summed below exp(88); exponentials and sums as above.
   */
  sampledExponentials(
    scoresPtr: number,
    standingsPtr: number,
    blockCount: number,
    blockStep: number,
    least: number,
    from: number,
    scale: number,
  ): number;

  // ----------------------------------------------------------------------------------------------- dense.ts
  /**
   * scores (queryCount, scoreStride) f32: scores[q, t] = queries[q] · keys[t] over keys (rowCount, headDim) f32 with
   * rowStride elements a row; queries (queryCount, headDim) f32. Four sums over d in turn, added as (0 + 1) + (2 + 3).
   * headDim a multiple of 4.
   */
  scoreRows(
    scoresPtr: number,
    keysPtr: number,
    queriesPtr: number,
    rowCount: number,
    headDim: number,
    queryCount: number,
    rowStride: number,
    scoreStride: number,
  ): void;
  /**
   * out (queryCount, headDim) f32 += sum over t, in order, of weights[q, t] * values[t, d]; values (rowCount, headDim)
   * f32 with rowStride, weights (queryCount, weightStride) f32. headDim a multiple of 4.
   */
  mixRows(
    outPtr: number,
    valuesPtr: number,
    weightsPtr: number,
    rowCount: number,
    headDim: number,
    queryCount: number,
    rowStride: number,
    weightStride: number,
  ): void;

  // ----------------------------------------------------------------------------------------------- score.ts
  /**
   * sets (setCount, SCORE_SET of `layout.ts`): tables of latent queries against the levels of a head group. groupPtr:
   * GROUP of `layout.ts`, queryCount 1 to 4. latents (channels + 1, latentStride) f32, channel-major as `project` makes
   * them, query q of set s in column s * queryCount + q; the last row is added to the bias (query · centre). Entries
   * are whole steps above each plane's least, step = max(leastStep, greatest range of a plane / 65280), ties to even; bias adds
   * the leasts in order of planes. leastStep at least 2^-126. scratchPtr: scoreScratchBytes. All addresses aligned to 16.
   */
  scoreTables(
    setsPtr: number,
    latentsPtr: number,
    groupPtr: number,
    scratchPtr: number,
    setCount: number,
    latentStride: number,
    leastStep: number,
  ): void;
  /**
   * scores (queryCount, scoreStride) f32, scores[q, 32 i + t] = bias + step * (sum of entries) of token t of block i,
   * for the blocks whose addresses are blocks (blockCount) u32: planes of the set at the start of each. Block i reads
   * set floor((skippedBlocks + i) / blocksPerSet), sets setStrideBytes apart; blocksPerSet > 0. The sums inside the sets
   * are written.
   */
  scorePlanes(
    scoresPtr: number,
    blocksPtr: number,
    setsPtr: number,
    blockCount: number,
    setStrideBytes: number,
    blocksPerSet: number,
    skippedBlocks: number,
    scoreStride: number,
  ): void;
  /** maxima (blockCount) f32: the greatest of maxima[i] and the 32 scores of block i; scores (blockCount * 32) f32. */
  blockMaxima(maximaPtr: number, scoresPtr: number, blockCount: number): void;

  // ---------------------------------------------------------------------------------------------- choose.ts
  /**
   * The n-th greatest, n from 1 on, of the scores of every blockStep-th block. scores (blockCount * 32) f32, maxima
   * (blockCount) f32 the greatest of each block; at least n of the scores are finite, none is NaN. scratchPtr has room
   * for all scores looked at.
   */
  nthScore(
    scoresPtr: number,
    maximaPtr: number,
    scratchPtr: number,
    blockCount: number,
    blockStep: number,
    n: number,
  ): number;
  /**
   * out (8 * groupCount) f32: the greatest over queries of score - offset, where the second is greater it is taken;
   * maxima (groupCount) f32: the greatest of each 8. scores (queryCount, scoreStride) f32, offsets (queryCount) f32,
   * queryCount at least 1. No NaN.
   */
  standings(
    outPtr: number,
    maximaPtr: number,
    scoresPtr: number,
    offsetsPtr: number,
    groupCount: number,
    queryCount: number,
    scoreStride: number,
  ): void;
  /**
   * numbers (wanted) u32, rising: the tokens of the greatest standings (count) f32, the first of equals. Returns the least
   * standing chosen. wanted from 1 to count; maxima as `standings` makes them. numbersPtr and scratchPtr have
   * room for count numbers each.
   */
  chooseTokens(
    numbersPtr: number,
    standingsPtr: number,
    maximaPtr: number,
    scratchPtr: number,
    count: number,
    wanted: number,
  ): number;
  /** out (queryCount, count) f32: the scores (queryCount, scoreStride) f32 of tokens numbers (count) u32. */
  takeScores(
    outPtr: number,
    scoresPtr: number,
    numbersPtr: number,
    count: number,
    queryCount: number,
    scoreStride: number,
  ): void;

  // ------------------------------------------------------------------------------------------------- mix.ts
  /**
   * worth (blockCount) f32: the weights of each block of 32 tokens summed, times the query's factor, the greatest over
   * queries; weights (queryCount, weightStride) f32, factors (queryCount) f32 >= 0. Four sums in turn, added as
   * (0 + 1) + (2 + 3).
   */
  blockWeights(
    worthPtr: number,
    weightsPtr: number,
    factorsPtr: number,
    blockCount: number,
    queryCount: number,
    weightStride: number,
  ): void;
  /**
   * sums f32 (mixSumBytes) += partial sums over tokens of weight * norm * i16 level, for parts of 8- and 4-bit channels;
   * of weight * norm where a bit is set, for rows of strips; and of weight * norm. groupPtr: GROUP of `layout.ts`;
   * blocks (blockCount, 2) u32: address of a value block (planes, then 32 norm codes), and of its 32 weights of the
   * first query, those of the next weightStride elements on, f32 >= 0. MIX_BLOCKS blocks at a time: a query's
   * weight * norm in them count in steps of 1 / 8191 of their greatest for levels, of 1 / 65471 of their sum (four sums
   * in turn, (0 + 1) + (2 + 3)) for bits; not at all where those are below 2^-115 and 2^-112. scratchPtr: mixScratchBytes, aligned
   * to 16. Lane j of a part's sum takes token pairs with floor(token / 2) % 4 = j.
   */
  mixPlanes(sumsPtr: number, blocksPtr: number, groupPtr: number, scratchPtr: number, blockCount: number): void;
  /**
   * latents (channels, latentStride) f32, channel-major. 8 and 4 bits: the sum over the channel's parts of
   * factor[part] * ((lane 0 + lane 1) + (lane 2 + lane 3)) of sums. 2 and 1 bits: constant * all weights, then
   * + factor[row] * sum of each of its rows. factors (mixScaleCount) f32: parts, rows, constants. counts: the first 16
   * bytes of GROUP. latentStride >= queryCount, zeros in between.
   */
  foldMix(
    latentsPtr: number,
    sumsPtr: number,
    scalesPtr: number,
    countsPtr: number,
    queryCount: number,
    latentStride: number,
  ): void;

  // -------------------------------------------------------------------------------------------- quantize.ts
  /**
   * Fills a book (BOOK of `layout.ts`: levels, then thresholds) for 2^bits levels: level[i] = offset + scale * unit[i],
   * threshold[i] = offset + scale * (unit[i] + unit[i + 1]) / 2, in f32. unit (2^bits) f32, rising; bits 1, 2, 4 or 8.
   */
  prepareBook(bookPtr: number, unitPtr: number, bits: number, scale: number, offset: number): void;
  /**
   * Sum of squared errors (f64 sums, in four lanes) of values (count) f32, every `strideElements`-th, coded with the
   * book: code = number of thresholds below the value.
   */
  bookError(bookPtr: number, valuesPtr: number, count: number, strideElements: number, bits: number): number;
  /** codes (count) u8 of values (count) f32: the number of thresholds below the value. */
  encode(codesPtr: number, bookPtr: number, valuesPtr: number, count: number, bits: number): void;
  /** values (count) f32 = level of each code (count) u8. Codes must be below 2^bits. */
  decode(valuesPtr: number, bookPtr: number, codesPtr: number, count: number, bits: number): void;
  /**
   * codes (count) u8 of values (count) f32 in even steps with a dead zone: zero + q where |q| = floor(|value| / step +
   * rounding), the sign that of the value, the code moved to 0 or `last` where it lies past them; rounding 0 to 1/2.
   * sums (2) f64, each in four lanes: of value * q, of q * q. All in f32 but the sums.
   */
  encodeSteps(
    codesPtr: number,
    sumsPtr: number,
    valuesPtr: number,
    count: number,
    step: number,
    rounding: number,
    zero: number,
    last: number,
  ): void;
  /** extremes (2) f32: least and greatest of values (count) f32; count > 0. Returns the f64 sum of squares in four lanes. */
  channelStatistics(extremesPtr: number, valuesPtr: number, count: number): number;

  // ---------------------------------------------------------------------------------------------- planes.ts
  /**
   * Codes to planes. codes (channels, codeStride) u8, channel-major, channels sorted by width: count8 of 8 bits, then
   * count4, count2, count1. blocks (blockCount, planeCount, 16) u8: see PLANES in `layout.ts`. Reads
   * blockCount * 32 codes of each channel; codeStride a multiple of 32, codesPtr and blocksPtr aligned to 16.
   */
  packPlanes(
    blocksPtr: number,
    codesPtr: number,
    count8: number,
    count4: number,
    count2: number,
    count1: number,
    blockCount: number,
    codeStride: number,
  ): void;
  /**
   * Blocks of chosen tokens, side by side at out: the nibbles that tokens (count) u32 have in `planes` planes, 32 tokens a
   * block in the order of the list, zeros behind the last. Token t lies in the block at blocks[t / 32] u32. With codeBytes
   * 32 (else 0) a block's 32 bytes behind those planes, one a token, come too.
   */
  gatherTokens(
    outPtr: number,
    blocksPtr: number,
    tokensPtr: number,
    count: number,
    planes: number,
    codeBytes: number,
  ): void;
  /** The way back: writes blockCount * 32 codes of each channel. */
  unpackPlanes(
    codesPtr: number,
    blocksPtr: number,
    count8: number,
    count4: number,
    count2: number,
    count1: number,
    blockCount: number,
    codeStride: number,
  ): void;

  // ----------------------------------------------------------------------------------------------- range.ts
  /** models (modelCount, MODEL of `layout.ts`): all nibbles as frequent, none seen. modelsPtr aligned to 16. */
  resetModels(modelsPtr: number, modelCount: number): void;
  /**
   * Codes (wideCount + narrowCount, codeStride) u8, channel-major, `wideCount` channels of 8 bits first, the others below
   * 16, to a RANGE CODE of `layout.ts` (asymmetric numeral systems: Duda, arXiv 1311.2540) by adaptive models, which
   * move on: frequencies by 1 / min(seen + 2, RANGE_WINDOW) of the way to the nibble met, in 1 / 32768, rounded half up.
   * Returns its bytes, which end at outPtr + rangeBytes(…). models as `resetModels` or the tokens before left them,
   * scratchPtr: rangeScratchBytes; models aligned to 16, scratch and out to 4.
   */
  encodeRange(
    outPtr: number,
    scratchPtr: number,
    modelsPtr: number,
    codesPtr: number,
    wideCount: number,
    narrowCount: number,
    tokenCount: number,
    codeStride: number,
  ): number;
  /**
   * The way back, from bytesPtr (byteCount) u8, aligned to 2. Returns 0, or -1 where the bytes are no range code of so
   * many tokens: they ran out, some were left, or the states are not those that coding began with; codes are undefined then.
   */
  decodeRange(
    codesPtr: number,
    modelsPtr: number,
    bytesPtr: number,
    byteCount: number,
    wideCount: number,
    narrowCount: number,
    tokenCount: number,
    codeStride: number,
  ): number;
}

/** Every kernel by name: the ABI handshake checks that a module exports each of them. */
export const KERNEL_NAMES = [
  "widenF16",
  "widenBf16",
  "narrowF16",
  "countNonFinite",
  "gatherRows",
  "scatterRows",
  "rowNorms",
  "scaleRows",
  "rotate",
  "mean",
  "secondMoment",
  "multiply",
  "transpose",
  "eigen",
  "jacobiSvd",
  "leadingEigen",
  "project",
  "synthesize",
  "softmax",
  "exponentials",
  "sampledExponentials",
  "scoreRows",
  "mixRows",
  "scoreTables",
  "scorePlanes",
  "blockMaxima",
  "nthScore",
  "standings",
  "chooseTokens",
  "takeScores",
  "blockWeights",
  "mixPlanes",
  "foldMix",
  "prepareBook",
  "bookError",
  "encode",
  "decode",
  "encodeSteps",
  "channelStatistics",
  "packPlanes",
  "unpackPlanes",
  "gatherTokens",
  "resetModels",
  "encodeRange",
  "decodeRange",
] as const satisfies readonly (keyof Kernels)[];

/** Changes whenever a signature or a layout that kernels know changes. */
export const ABI_VERSION = 1;
