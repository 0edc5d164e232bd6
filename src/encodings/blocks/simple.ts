/**
 * Q4_0, Q5_0: 32 codes and a scale. Q4_1, Q5_1: a scale and a minimum. Five-bit types keep the fifth bits apart, in
 * front of the others.
 */

import { inverse, readHalf, signedLargest, wholeNumbers, writeHalf } from './arithmetic.ts';
import type { BlockCodec } from './codec.ts';
import { packFifth, packNibbles, unpackFifth, unpackNibbles } from './nibbles.ts';
import { importanceSpans } from './qkx.ts';

const { fround } = Math;
const weighting = { weight: 'importance and size', spread: { factor: 1, of: 'row' } } as const;

export const q40 = scaled(4);
export const q50 = scaled(5);
export const q41 = offset(4);
export const q51 = offset(5);

/** Where and how the codes of a block lie, `at` bytes after its start. */
function layout(bits: 4 | 5, at: number) {
  const nibbles = bits === 4 ? at : at + 4;
  return {
    part: 32,
    unpack(block: Uint8Array, codes: Uint8Array): void {
      unpackNibbles(block, nibbles, codes);
      if (bits === 5) unpackFifth(block, at, codes);
    },
    pack(codes: Uint8Array, block: Uint8Array): void {
      packNibbles(codes, 0, block, nibbles);
      if (bits === 5) packFifth(codes, block, at);
    },
  };
}

function scaled(bits: 4 | 5): BlockCodec {
  const half = 2 ** (bits - 1);
  const form = layout(bits, 2);
  const codes = new Uint8Array(32);
  return {
    ...form,
    name: `Q${bits}_0`,
    levels: wholeNumbers(-half, half - 1),
    minima: false,
    parameters(block, scales, minima) {
      scales[0] = readHalf(block, 0);
      minima[0] = 0;
    },
    store: (block, scales) => writeHalf(block, 0, scales[0]),
    search: (weighted) => (weighted ? { kind: 'scale', half, ...weighting } : undefined),
    encode(x, block, found) {
      if (found) {
        writeHalf(block, 0, found.scales[0]);
        codes.set(found.codes);
      } else {
        const scale = fround(signedLargest(x) / -half);
        const perUnit = inverse(scale);
        writeHalf(block, 0, scale);
        for (let i = 0; i < 32; i++) {
          codes[i] = Math.min(2 * half - 1, fround(fround(x[i] * perUnit) + (half + 0.5)) | 0);
        }
      }
      form.pack(codes, block);
    },
  };
}

function offset(bits: 4 | 5): BlockCodec {
  const top = 2 ** bits - 1;
  const form = layout(bits, 4);
  const codes = new Uint8Array(32);
  return {
    ...form,
    name: `Q${bits}_1`,
    levels: wholeNumbers(0, top),
    minima: true,
    parameters(block, scales, minima) {
      scales[0] = readHalf(block, 0);
      minima[0] = -readHalf(block, 2);
    },
    store(block, scales, minima) {
      writeHalf(block, 0, scales[0]);
      writeHalf(block, 2, -minima[0]);
    },
    search: (weighted) => (weighted ? { ...importanceSpans(top), kind: 'span', ...weighting } : undefined),
    encode(x, block, found) {
      if (found) {
        writeHalf(block, 0, found.scales[0]);
        writeHalf(block, 2, -found.minima[0]);
        codes.set(found.codes);
      } else {
        let low = x[0];
        let high = x[0];
        for (const each of x) {
          if (each < low) low = each;
          if (each > high) high = each;
        }
        const scale = fround(fround(high - low) / top);
        const perUnit = inverse(scale);
        writeHalf(block, 0, scale);
        writeHalf(block, 2, low);
        for (let i = 0; i < 32; i++) {
          codes[i] = Math.min(top, fround(fround(fround(x[i] - low) * perUnit) + 0.5) | 0);
        }
      }
      form.pack(codes, block);
    },
  };
}
