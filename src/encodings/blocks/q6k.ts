/**
 * Q6_K: 16 parts of 16 weights; scales of eight bits with a sign. In every 128 codes, 64 bytes hold the low nibbles of
 * l and l + 64; the pairs of high bits follow.
 */

import { nearestInteger, readHalf, signedLargest, wholeNumbers, writeHalf } from './arithmetic.ts';
import type { BlockCodec } from './codec.ts';
import { packPairs, roundAgain, superBlock, unpackPairs, wholeOf } from './kquant.ts';

const { fround } = Math;
const parts = 16;
const pairsAt = 128;
const numbersAt = 192;
const scaleAt = 208;

export const q6k: BlockCodec = {
  name: 'Q6_K',
  part: superBlock / parts,
  levels: wholeNumbers(-32, 31),
  minima: false,
  parameters(block, scales, minima) {
    const scale = readHalf(block, scaleAt);
    for (let j = 0; j < parts; j++) scales[j] = scale * ((block[numbersAt + j] << 24) >> 24);
    minima.fill(0);
  },
  numbers: { least: -128, most: 127, units: (block) => [readHalf(block, scaleAt), 0] },
  store: (block, scales) => block.set(wholeOf(scales, readHalf(block, scaleAt)), numbersAt),
  unpack(block, codes) {
    for (let half = 0; half < 2; half++) {
      for (let l = 0; l < 64; l++) {
        const byte = block[64 * half + l];
        codes[128 * half + l] = byte & 15;
        codes[128 * half + l + 64] = byte >> 4;
      }
    }
    unpackPairs(block, pairsAt, codes, 4);
  },
  pack(codes, block) {
    for (let half = 0; half < 2; half++) {
      for (let l = 0; l < 64; l++) {
        const i = 128 * half + l;
        block[64 * half + l] = (codes[i] & 15) | ((codes[i + 64] & 15) << 4);
      }
    }
    packPairs(codes, block, pairsAt, 4);
  },
  search: (weighted) => ({ kind: 'scale', half: 32, weight: weighted ? 'importance' : 'square' }),
  encode(x, block, found) {
    const { scales, codes } = found!;
    const largest = signedLargest(scales);
    if (Math.abs(largest) < fround(1e-15)) {
      block.fill(0);
      return;
    }
    const perUnit = fround(-128 / largest);
    writeHalf(block, scaleAt, fround(1 / perUnit));
    for (let j = 0; j < parts; j++) {
      block[numbersAt + j] = Math.min(127, nearestInteger(fround(perUnit * scales[j])));
    }
    roundAgain(q6k, x, codes, block);
  },
};
