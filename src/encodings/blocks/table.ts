/** The block types of ggml that can be written without an importance matrix. */

import { LapidaryError } from '../../base/errors.ts';
import { iq4nl, iq4xs } from './iq4.ts';
import { mxfp4 } from './mxfp4.ts';
import { q2k } from './q2k.ts';
import { q3k } from './q3k.ts';
import { q4k, q5k } from './q45k.ts';
import { q6k } from './q6k.ts';
import { q80 } from './q8.ts';
import { q40, q41, q50, q51 } from './simple.ts';
import { tq10, tq20 } from './ternary.ts';
import type { BlockType } from './type.ts';
import { blockType } from './type.ts';

const codecs = [q40, q41, q50, q51, q80, q2k, q3k, q4k, q5k, q6k, iq4nl, iq4xs, tq10, tq20, mxfp4];
const all: readonly BlockType[] = codecs.map(blockType);

/** By their id in GGUF files and by name ("Q4_K"). */
export const blockTypes: {
  readonly byId: ReadonlyMap<number, BlockType>;
  readonly byName: ReadonlyMap<string, BlockType>;
} = {
  byId: new Map(all.map((type) => [type.id, type])),
  byName: new Map(all.map((type) => [type.name, type])),
};

/** @throws LapidaryError on a name that is none of these types. */
export function blockTypeNamed(name: string): BlockType {
  const type = blockTypes.byName.get(name);
  if (!type) {
    const expected = [...blockTypes.byName.keys()].join(', ');
    throw new LapidaryError({ what: 'no such block type', expected, found: name });
  }
  return type;
}

/** What llama.cpp takes instead where rows are no whole blocks of 256; all have blocks of 32. */
const instead: Readonly<Record<string, string>> = {
  Q2_K: 'Q4_0',
  Q3_K: 'Q4_0',
  Q4_K: 'Q5_0',
  Q5_K: 'Q5_1',
  Q6_K: 'Q8_0',
  IQ4_XS: 'IQ4_NL',
  TQ1_0: 'Q4_0',
  TQ2_0: 'Q4_0',
};

/**
 * The type, or where rows of so many columns are no whole blocks of it what llama.cpp takes instead; undefined where
 * nothing fits, and a matrix stays in float16.
 */
export function blockTypeFor(name: string, columns: number): BlockType | undefined {
  const type = blockTypeNamed(name);
  if (columns % type.size === 0) return type;
  const other = instead[name] === undefined ? undefined : blockTypeNamed(instead[name]);
  return other && columns % other.size === 0 ? other : undefined;
}
