/**
 * TQ1_0 and TQ2_0: 256 weights of -1, 0 and 1 and one scale, the largest size. TQ1_0 holds five in a byte, as a
 * fraction of 256 in base three, so that multiplying by powers of three moves them out at the top; TQ2_0 two bits each.
 */

import { inverse, readHalf, roundAway, signedLargest, wholeNumbers, writeHalf } from './arithmetic.ts';
import type { BlockCodec } from './codec.ts';

const { fround } = Math;
const codes = new Uint8Array(256);

/** Runs of bytes: `count` of them from byte `at` on hold the codes from `from` on, `trits` each, `count` apart. */
const runs = [
  { at: 0, from: 0, count: 32, trits: 5 },
  { at: 32, from: 160, count: 16, trits: 5 },
  { at: 48, from: 240, count: 4, trits: 4 },
] as const;

export const tq10: BlockCodec = {
  ...ternary(52),
  name: 'TQ1_0',
  levels: wholeNumbers(-1, 1),
  unpack(block, codes) {
    for (const { at, from, count, trits } of runs) {
      for (let byte = 0; byte < count; byte++) {
        for (let n = 0; n < trits; n++) {
          codes[from + n * count + byte] = (((block[at + byte] * 3 ** n) & 255) * 3) >> 8;
        }
      }
    }
  },
  pack(codes, block) {
    for (const { at, from, count, trits } of runs) {
      for (let byte = 0; byte < count; byte++) {
        let number = 0;
        for (let n = 0; n < 5; n++) number = number * 3 + (n < trits ? codes[from + n * count + byte] : 0);
        block[at + byte] = Math.ceil((number * 256) / 243);
      }
    }
  },
};

export const tq20: BlockCodec = {
  ...ternary(64),
  name: 'TQ2_0',
  // Quantizing never gives the last.
  levels: wholeNumbers(-1, 2),
  unpack(block, codes) {
    for (let i = 0; i < 256; i++) codes[i] = (block[byteOf(i)] >> shiftOf(i)) & 3;
  },
  pack(codes, block) {
    block.fill(0, 0, 64);
    for (let i = 0; i < 256; i++) block[byteOf(i)] |= codes[i] << shiftOf(i);
  },
};

const byteOf = (i: number): number => (i >> 7) * 32 + (i & 31);
const shiftOf = (i: number): number => ((i >> 5) & 3) * 2;

/** @param scaleAt byte of the scale */
function ternary(scaleAt: number) {
  return {
    part: 256,
    minima: false,
    parameters(block: Uint8Array, scales: Float32Array, minima: Float32Array): void {
      scales[0] = readHalf(block, scaleAt);
      minima[0] = 0;
    },
    store: (block: Uint8Array, scales: Float32Array): void => writeHalf(block, scaleAt, scales[0]),
    encode(this: BlockCodec, x: Float32Array, block: Uint8Array): void {
      const scale = Math.abs(signedLargest(x));
      const perUnit = inverse(scale);
      writeHalf(block, scaleAt, scale);
      for (let i = 0; i < 256; i++) codes[i] = roundAway(fround(x[i] * perUnit)) + 1;
      this.pack(codes, block);
    },
  };
}
