/**
 * Q4_K and Q5_K: eight parts of 32 weights; scales and minima of six bits in twelve bytes, times two of the block.
 * Every 64 codes share 32 bytes, the first half in the low nibbles; fifth bits lie apart, in front.
 */

import { nearestInteger, readHalf, wholeNumbers, writeHalf } from './arithmetic.ts';
import type { BlockCodec } from './codec.ts';
import { roundAgain, superBlock, wholeOf } from './kquant.ts';
import type { SpanSearch } from './qkx.ts';
import { importanceSpans } from './qkx.ts';
import { searchPositive } from './qp.ts';
import type { Search } from './search.ts';

const { fround } = Math;
const parts = 8;
const numbersAt = 4;
const highAt = 16;

export const q4k = codec(4, { first: -1, steps: 20 });
export const q5k = codec(5, { first: -0.5, steps: 15 });

function codec(bits: 4 | 5, { first, steps }: Pick<SpanSearch, 'first' | 'steps'>): BlockCodec {
  const top = 2 ** bits - 1;
  const lowAt = bits === 4 ? highAt : highAt + 32;
  const plain: Search = {
    kind: 'span',
    weight: 'size and mean',
    top,
    first,
    step: fround(0.1),
    steps,
    absolute: false,
  };
  const withImportance: Search = {
    ...importanceSpans(top),
    kind: 'span',
    weight: 'importance and size',
    spread: { factor: 2, of: 'block' },
  };

  const self: BlockCodec = {
    name: `Q${bits}_K`,
    part: superBlock / parts,
    levels: wholeNumbers(0, top),
    minima: true,
    parameters(block, scales, minima) {
      const scale = readHalf(block, 0);
      const minimum = readHalf(block, 2);
      for (let j = 0; j < parts; j++) {
        const [s, m] = readNumbers(block, j);
        scales[j] = scale * s;
        minima[j] = minimum * m;
      }
    },
    numbers: { least: 0, most: 63, units: (block) => [readHalf(block, 0), readHalf(block, 2)] },
    store(block, scales, minima) {
      writeNumbers(block, wholeOf(scales, readHalf(block, 0)), wholeOf(minima, readHalf(block, 2)));
    },
    unpack(block, codes) {
      for (let c = 0; c < 4; c++) {
        for (let l = 0; l < 32; l++) {
          const byte = block[lowAt + 32 * c + l];
          codes[64 * c + l] = byte & 15;
          codes[64 * c + l + 32] = byte >> 4;
        }
      }
      if (bits === 4) return;
      for (let i = 0; i < superBlock; i++) codes[i] |= ((block[highAt + (i & 31)] >> (i >> 5)) & 1) << 4;
    },
    pack(codes, block) {
      for (let c = 0; c < 4; c++) {
        for (let l = 0; l < 32; l++) {
          block[lowAt + 32 * c + l] = (codes[64 * c + l] & 15) | ((codes[64 * c + l + 32] & 15) << 4);
        }
      }
      if (bits === 4) return;
      block.fill(0, highAt, lowAt);
      for (let i = 0; i < superBlock; i++) block[highAt + (i & 31)] |= (codes[i] >> 4) << (i >> 5);
    },
    search: (weighted) => (weighted ? withImportance : plain),
    encode(x, block, found, weighted) {
      const { scales, minima, totals, codes } = found!;
      const whole = [scales, minima].map((values, which) => {
        const numbers = new Uint8Array(parts);
        const unit = weighted ? searchPositive(values, totals, numbers, 63) : ofLargest(values, numbers);
        writeHalf(block, 2 * which, unit);
        return numbers;
      });
      writeNumbers(block, whole[0], whole[1]);
      roundAgain(self, x, codes, block);
    },
  };
  return self;
}

/** Sixty-thirds of the largest. */
function ofLargest(values: Float32Array, numbers: Uint8Array): number {
  const most = values.reduce((a, b) => Math.max(a, b), 0);
  const perUnit = most > 0 ? fround(63 / most) : 0;
  for (let j = 0; j < parts; j++) {
    numbers[j] = Math.min(63, nearestInteger(fround(perUnit * values[j])) & 255);
  }
  return fround(most / 63);
}

function readNumbers(block: Uint8Array, j: number): readonly [scale: number, minimum: number] {
  const at = numbersAt + j;
  if (j < 4) return [block[at] & 63, block[at + 4] & 63];
  return [(block[at + 4] & 15) | ((block[at - 4] >> 6) << 4), (block[at + 4] >> 4) | ((block[at] >> 6) << 4)];
}

function writeNumbers(block: Uint8Array, scales: ArrayLike<number>, minima: ArrayLike<number>): void {
  for (let j = 0; j < 4; j++) {
    const at = numbersAt + j;
    block[at] = scales[j] | ((scales[j + 4] >> 4) << 6);
    block[at + 4] = minima[j] | ((minima[j + 4] >> 4) << 6);
    block[at + 8] = (scales[j + 4] & 15) | ((minima[j + 4] & 15) << 4);
  }
}
