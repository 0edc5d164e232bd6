/**
 * MXFP4 (OCP Microscaling Formats, 2023): 32 codes of four-bit floating point (sign, two bits of exponent, one of
 * fraction) and a power of two for a scale. Levels are twice the values, so that they are whole. Code 8 is -0.
 */

import type { BlockCodec } from './codec.ts';
import { packNibbles, unpackNibbles } from './nibbles.ts';

const { fround } = Math;
const levels = Float32Array.of(0, 1, 2, 3, 4, 6, 8, 12, -0, -1, -2, -3, -4, -6, -8, -12);
const codes = new Uint8Array(32);

export const mxfp4: BlockCodec = {
  name: 'MXFP4',
  part: 32,
  levels,
  minima: false,
  parameters(block, scales, minima) {
    scales[0] = 2 ** (block[0] - 128);
    minima[0] = 0;
  },
  unpack: (block, codes) => unpackNibbles(block, 1, codes),
  pack: (codes, block) => packNibbles(codes, 0, block, 1),
  encode(x, block) {
    let most = 0;
    for (const each of x) if (Math.abs(each) > most) most = Math.abs(each);
    block[0] = most > 0 ? Math.floor(fround(Math.log2(most))) - 2 + 127 : 0;
    const scale = 2 ** (block[0] - 128);
    for (let i = 0; i < 32; i++) codes[i] = nearestLevel(x[i], scale);
    packNibbles(codes, 0, block, 1);
  },
};

/** The first of the nearest levels. */
function nearestLevel(value: number, scale: number): number {
  let best = 0;
  let least = Math.abs(value);
  for (let code = 1; code < 16; code++) {
    const error = Math.abs(fround(fround(levels[code] * scale) - value));
    if (error < least) {
      best = code;
      least = error;
    }
  }
  return best;
}
