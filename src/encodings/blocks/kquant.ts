/**
 * What the super-blocks of 256 weights (Q2_K to Q6_K) share: two-bit planes, and the second rounding, in which codes
 * are chosen anew for the scales and minima as they are stored.
 */

import { nearestInteger } from './arithmetic.ts';
import type { BlockCodec } from './codec.ts';

const { fround } = Math;

export const superBlock = 256;

/** In every 128 codes, byte l of 32 holds two bits of codes l, l + 32, l + 64 and l + 96. */
export function unpackPairs(block: Uint8Array, at: number, codes: Uint8Array, shift = 0): void {
  for (let half = 0; half < 2; half++) {
    for (let l = 0; l < 32; l++) {
      const byte = block[at + 32 * half + l];
      const i = 128 * half + l;
      codes[i] |= (byte & 3) << shift;
      codes[i + 32] |= ((byte >> 2) & 3) << shift;
      codes[i + 64] |= ((byte >> 4) & 3) << shift;
      codes[i + 96] |= (byte >> 6) << shift;
    }
  }
}

export function packPairs(codes: Uint8Array, block: Uint8Array, at: number, shift = 0): void {
  for (let half = 0; half < 2; half++) {
    for (let l = 0; l < 32; l++) {
      const i = 128 * half + l;
      block[at + 32 * half + l] =
        ((codes[i] >> shift) & 3) |
        (((codes[i + 32] >> shift) & 3) << 2) |
        (((codes[i + 64] >> shift) & 3) << 4) |
        (((codes[i + 96] >> shift) & 3) << 6);
    }
  }
}

/** How many units each is. */
export function wholeOf(values: Float32Array, unit: number): Int32Array {
  return Int32Array.from(values, (value) => (unit === 0 ? 0 : Math.round(value / unit)));
}

const scales = new Float32Array(16);
const minima = new Float32Array(16);

/**
 * Rounds the values of a block to the parameters that it holds already, and packs the codes. Parts whose scale has
 * become 0 keep the codes they have.
 */
export function roundAgain(
  codec: Pick<BlockCodec, 'part' | 'levels' | 'parameters' | 'pack'>,
  x: Float32Array,
  codes: Uint8Array,
  block: Uint8Array,
): void {
  const { part, levels } = codec;
  const top = levels.length - 1;
  codec.parameters(block, scales, minima);
  for (let from = 0, p = 0; from < superBlock; from += part, p++) {
    if (scales[p] !== 0) roundPart(x, from, from + part, scales[p], minima[p], -levels[0], top, codes);
  }
  codec.pack(codes, block);
}

function roundPart(
  x: Float32Array,
  from: number,
  to: number,
  scale: number,
  minimum: number,
  zero: number,
  top: number,
  codes: Uint8Array,
): void {
  for (let i = from; i < to; i++) {
    const code = nearestInteger(fround(fround(x[i] + minimum) / scale)) + zero;
    codes[i] = code < 0 ? 0 : code > top ? top : code;
  }
}
