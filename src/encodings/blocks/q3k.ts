/** Q3_K: 16 parts of 16 weights; scales of six bits with a sign. The third bits of the codes lie apart, in front. */

import { clamp, nearestInteger, readHalf, signedLargest, wholeNumbers, writeHalf } from './arithmetic.ts';
import type { BlockCodec } from './codec.ts';
import { packPairs, roundAgain, superBlock, unpackPairs, wholeOf } from './kquant.ts';
import { searchScale } from './qx.ts';

const { fround } = Math;
const parts = 16;
const pairsAt = 32;
const scalesAt = 96;
const scaleAt = 108;

export const q3k: BlockCodec = {
  name: 'Q3_K',
  part: superBlock / parts,
  levels: wholeNumbers(-4, 3),
  minima: false,
  parameters(block, scales, minima) {
    const scale = readHalf(block, scaleAt);
    for (let j = 0; j < parts; j++) {
      const low = (block[scalesAt + (j & 7)] >> (4 * (j >> 3))) & 15;
      const high = (block[scalesAt + 8 + (j & 3)] >> (2 * (j >> 2))) & 3;
      scales[j] = scale * ((low | (high << 4)) - 32);
    }
    minima.fill(0);
  },
  numbers: { least: -32, most: 31, units: (block) => [readHalf(block, scaleAt), 0] },
  store(block, scales) {
    writeNumbers(
      block,
      wholeOf(scales, readHalf(block, scaleAt)).map((number) => number + 32),
    );
  },
  unpack(block, codes) {
    codes.fill(0);
    unpackPairs(block, pairsAt, codes);
    for (let i = 0; i < superBlock; i++) codes[i] |= ((block[i & 31] >> (i >> 5)) & 1) << 2;
  },
  pack(codes, block) {
    packPairs(codes, block, pairsAt);
    block.fill(0, 0, 32);
    for (let i = 0; i < superBlock; i++) block[i & 31] |= (codes[i] >> 2) << (i >> 5);
  },
  search: (weighted) =>
    weighted
      ? { kind: 'scale', half: 4, weight: 'importance and size', spread: { factor: 2, of: 'block' } }
      : { kind: 'descent', half: 4, weight: 'square' },
  encode(x, block, found, weighted) {
    const { scales, totals, codes } = found!;
    const numbers = new Uint8Array(parts);
    const unit = weighted ? searchScale(scales, totals, numbers, 32) : ofLargest(scales, numbers);
    writeHalf(block, scaleAt, unit);
    writeNumbers(block, numbers);
    roundAgain(q3k, x, codes, block);
  },
};

function writeNumbers(block: Uint8Array, numbers: ArrayLike<number>): void {
  block.fill(0, scalesAt, scalesAt + 12);
  for (let j = 0; j < parts; j++) {
    block[scalesAt + (j & 7)] |= (numbers[j] & 15) << (4 * (j >> 3));
    block[scalesAt + 8 + (j & 3)] |= (numbers[j] >> 4) << (2 * (j >> 2));
  }
}

/** Thirty-seconds of the largest, which gets -32; 0 to 63 stand for -32 to 31. */
function ofLargest(values: Float32Array, numbers: Uint8Array): number {
  const largest = signedLargest(values);
  // Without a scale, ggml leaves the numbers at 0.
  if (largest === 0) return 0;
  const perUnit = fround(-32 / largest);
  for (let j = 0; j < values.length; j++) {
    numbers[j] = clamp(nearestInteger(fround(perUnit * values[j])), -32, 31) + 32;
  }
  return fround(1 / perUnit);
}
