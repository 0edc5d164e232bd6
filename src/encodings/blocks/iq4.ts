/** IQ4_NL: 32 weights and a scale. IQ4_XS: eight parts of 32 with scales of six bits. Levels: levels.ts. */

import { clamp, inverse, nearestInteger, readHalf, signedLargest, writeHalf } from './arithmetic.ts';
import type { BlockCodec } from './codec.ts';
import { levels, nearestLevel } from './levels.ts';
import { packNibbles, unpackNibbles } from './nibbles.ts';
import type { Search } from './search.ts';

const { fround } = Math;

const search = (weighted: boolean): Search => ({
  kind: 'levels',
  weight: weighted ? 'importance and size' : 'square',
  spread: { factor: 2, of: 'block' },
});

export const iq4nl: BlockCodec = {
  name: 'IQ4_NL',
  part: 32,
  levels,
  minima: false,
  parameters(block, scales, minima) {
    scales[0] = readHalf(block, 0);
    minima[0] = 0;
  },
  unpack: (block, codes) => unpackNibbles(block, 2, codes),
  pack: (codes, block) => packNibbles(codes, 0, block, 2),
  search,
  encode(x, block, found) {
    const [scale] = found!.scales;
    const perUnit = inverse(scale);
    writeHalf(block, 0, scale);
    packNibbles(
      Uint8Array.from(x, (each) => nearestLevel(fround(perUnit * each))),
      0,
      block,
      2,
    );
  },
};

export const iq4xs: BlockCodec = {
  name: 'IQ4_XS',
  part: 32,
  levels,
  minima: false,
  parameters(block, scales, minima) {
    const scale = readHalf(block, 0);
    for (let j = 0; j < 8; j++) {
      const low = (block[4 + (j >> 1)] >> (4 * (j & 1))) & 15;
      const high = (block[2 + (j >> 2)] >> (2 * (j & 3))) & 3;
      scales[j] = scale * ((low | (high << 4)) - 32);
    }
    minima.fill(0);
  },
  unpack(block, codes) {
    for (let j = 0; j < 8; j++) unpackNibbles(block, 8 + 16 * j, codes, 32 * j);
  },
  pack(codes, block) {
    for (let j = 0; j < 8; j++) packNibbles(codes, 32 * j, block, 8 + 16 * j);
  },
  search,
  encode(x, block, found) {
    const { scales } = found!;
    const scale = fround(-signedLargest(scales) / 32);
    const perUnit = inverse(scale);
    const codes = new Uint8Array(256);
    block.fill(0);
    writeHalf(block, 0, scale);
    for (let j = 0; j < 8; j++) {
      const number = clamp(nearestInteger(fround(perUnit * scales[j])), -32, 31);
      const perLevel = inverse(fround(scale * number));
      for (let i = 32 * j; i < 32 * j + 32; i++) codes[i] = nearestLevel(fround(perLevel * x[i]));
      block[4 + (j >> 1)] |= ((number + 32) & 15) << (4 * (j & 1));
      block[2 + (j >> 2)] |= ((number + 32) >> 4) << (2 * (j & 3));
    }
    iq4xs.pack(codes, block);
  },
};
