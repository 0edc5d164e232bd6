/** Blocks of many kinds for the tests of block types, the same on every machine, and what ggml made of them. */

import { createHash } from 'node:crypto';
import { random } from '../src/base/random.ts';

export const columns = 1024;
/** Of each size of block. */
export const blockCount = 4096;

const { uniform, normal, integer } = random(3);

/** How the weights of one block are drawn, given one number for all of them. */
const kinds: Readonly<Record<string, (shared: number) => number>> = {
  normal: () => 0.02 * normal(),
  'heavy-tailed': () => 0.05 * normal() ** 3,
  zeros: () => 0,
  constant: (shared) => shared,
  tiny: () => 1e-7 * normal(),
  'so small that scales vanish': () => normal() * 10 ** (-38 * uniform() - 4),
  huge: () => 1e5 * normal(),
  'negative only': () => -0.02 * Math.abs(normal()) - 0.001,
  'positive only': () => 0.02 * Math.abs(normal()) + 1,
  'mostly zeros': () => (uniform() < 0.9 ? 0 : normal()),
  'on a grid, full of ties': () => Math.round(3 * normal()) / 8,
  'nearly constant': (shared) => -500 * Math.abs(shared) + 0.001 * uniform(),
};

/** Blocks of every kind, some with an outlier, in rows of `columns`. */
export function mixedBlocks(size: number): Float32Array {
  const values = new Float32Array(blockCount * size);
  const draws = Object.values(kinds);
  for (let block = 0; block < blockCount; block++) {
    const shared = normal();
    const draw = draws[block % draws.length];
    const at = block * size;
    for (let i = 0; i < size; i++) values[at + i] = draw(shared);
    if (uniform() < 0.1) values[at + integer(size)] = 10;
  }
  return values;
}

/** Of columns; a few have none at all. */
export function someImportance(): Float32Array {
  return Float32Array.from({ length: columns }, () => (uniform() < 0.05 ? 0 : uniform() ** 3));
}

export const blocks32 = mixedBlocks(32);
export const blocks256 = mixedBlocks(256);
export const importance = someImportance();

export const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** What stands in goldens/blocks.json for each type, without importance and with. */
export interface Golden {
  readonly sha256: string;
  /** The first block, base64. */
  readonly first: string;
}
export type Goldens = Readonly<Record<string, { readonly plain: Golden; readonly weighted: Golden }>>;
