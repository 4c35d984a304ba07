/** Lengths that the projection is offered for. */
export const LENGTHS = [2048, 4096, 8192, 16384, 32768, 65536, 131072];
