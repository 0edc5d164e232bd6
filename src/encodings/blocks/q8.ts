/** Q8_0: 32 codes of eight bits and a scale. Importance changes nothing, as in ggml. */

import { inverse, readHalf, roundAway, signedLargest, wholeNumbers, writeHalf } from './arithmetic.ts';
import type { BlockCodec } from './codec.ts';

const { fround } = Math;

export const q80: BlockCodec = {
  name: 'Q8_0',
  part: 32,
  levels: wholeNumbers(-128, 127),
  minima: false,
  parameters(block, scales, minima) {
    scales[0] = readHalf(block, 0);
    minima[0] = 0;
  },
  store: (block, scales) => writeHalf(block, 0, scales[0]),
  unpack(block, codes) {
    for (let i = 0; i < 32; i++) codes[i] = block[2 + i] ^ 128;
  },
  pack(codes, block) {
    for (let i = 0; i < 32; i++) block[2 + i] = codes[i] ^ 128;
  },
  encode(x, block) {
    const scale = fround(Math.abs(signedLargest(x)) / 127);
    const perUnit = inverse(scale);
    writeHalf(block, 0, scale);
    for (let i = 0; i < 32; i++) block[2 + i] = roundAway(fround(x[i] * perUnit));
  },
};
