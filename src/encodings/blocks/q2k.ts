/** Q2_K: 16 parts of 16 weights; scales and minima of four bits, times two of the block. */

import { nearestInteger, readHalf, wholeNumbers, writeHalf } from './arithmetic.ts';
import type { BlockCodec } from './codec.ts';
import { packPairs, roundAgain, superBlock, unpackPairs, wholeOf } from './kquant.ts';
import { importanceSpans } from './qkx.ts';
import { searchPositive } from './qp.ts';
import type { Search } from './search.ts';

const { fround } = Math;
const parts = 16;
const scaleAt = 80;
const minimumAt = 82;
const search: Search = {
  kind: 'span',
  weight: 'size',
  top: 3,
  first: -0.5,
  step: fround(0.1),
  steps: 15,
  absolute: true,
};

export const q2k: BlockCodec = {
  name: 'Q2_K',
  part: superBlock / parts,
  levels: wholeNumbers(0, 3),
  minima: true,
  parameters(block, scales, minima) {
    const scale = readHalf(block, scaleAt);
    const minimum = readHalf(block, minimumAt);
    for (let j = 0; j < parts; j++) {
      scales[j] = scale * (block[j] & 15);
      minima[j] = minimum * (block[j] >> 4);
    }
  },
  numbers: {
    least: 0,
    most: 15,
    units: (block) => [readHalf(block, scaleAt), readHalf(block, minimumAt)],
  },
  store(block, scales, minima) {
    const numbers = wholeOf(scales, readHalf(block, scaleAt));
    const below = wholeOf(minima, readHalf(block, minimumAt));
    for (let j = 0; j < parts; j++) block[j] = numbers[j] | (below[j] << 4);
  },
  unpack(block, codes) {
    codes.fill(0);
    unpackPairs(block, 16, codes);
  },
  pack: (codes, block) => packPairs(codes, block, 16),
  search: (weighted) =>
    weighted
      ? {
          ...importanceSpans(3),
          kind: 'span',
          weight: 'importance and size',
          spread: { factor: 1, of: 'block' },
        }
      : search,
  encode(x, block, found, weighted) {
    const { scales, minima, totals, codes } = found!;
    const numbers = [scales, minima].map((values, which) => {
      const whole = new Uint8Array(parts);
      const unit = weighted ? searchPositive(values, totals, whole, 15) : ofLargest(values, whole);
      writeHalf(block, which === 0 ? scaleAt : minimumAt, unit);
      return whole;
    });
    for (let j = 0; j < parts; j++) block[j] = numbers[0][j] | (numbers[1][j] << 4);
    roundAgain(q2k, x, codes, block);
  },
};

/** Fifteenths of the largest. */
function ofLargest(values: Float32Array, whole: Uint8Array): number {
  const most = values.reduce((a, b) => Math.max(a, b), 0);
  if (!(most > 0)) return 0;
  const perUnit = fround(15 / most);
  for (let j = 0; j < values.length; j++) whole[j] = nearestInteger(fround(perUnit * values[j]));
  return fround(most / 15);
}
