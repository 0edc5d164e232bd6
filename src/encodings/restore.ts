/**
 * Encodings from what they are at rest: each kind knows how it is made again from its description and tensors. Work that
 * was interrupted goes on from there.
 */

import { LapidaryError } from '../base/errors.ts';
import { restoreBinary } from './binary.ts';
import { restoreBlocks } from './blocks/encoding.ts';
import { restoreByteScales } from './byte-scales.ts';
import { restoreColumns, restoreSparse } from './composite.ts';
import { dense } from './dense.ts';
import type { Encoding, EncodingAtRest } from './encoding.ts';
import { restoreGrouped } from './grouped.ts';
import { restoreLowRank } from './low-rank.ts';
import { restoreLevels } from './levels.ts';
import { restoreIntegers } from './integer.ts';
import { restoreRounded } from './rounded.ts';
import { restoreShifted } from './shifted.ts';

const kinds: ReadonlyMap<unknown, (atRest: EncodingAtRest) => Encoding> = new Map([
  ['dense', restoreDense],
  ['grouped', restoreGrouped],
  ['blocks', restoreBlocks],
  ['levels', restoreLevels],
  ['binary', restoreBinary],
  ['integers', restoreIntegers],
  ['rounded', (atRest) => restoreRounded(atRest, restore)],
  ['byte-scales', (atRest) => restoreByteScales(atRest, restore)],
  ['columns', (atRest) => restoreColumns(atRest, restore)],
  ['low-rank', (atRest) => restoreLowRank(atRest, restore)],
  ['shifted', (atRest) => restoreShifted(atRest, restore)],
  ['sparse', (atRest) => restoreSparse(atRest, restore)],
]);

/**
 * The encoding that this was, bit for bit; its tensors are shared, not copied.
 * @throws LapidaryError where description, shape and tensors are of no encoding or do not agree
 */
export function restore(atRest: EncodingAtRest): Encoding {
  const { kind } = atRest.description;
  const make = kinds.get(kind);
  if (!make) refuse('an encoding of a known kind', [...kinds.keys()].join(', '), `${kind}`);
  return make(atRest);
}

function restoreDense({ shape, tensors }: EncodingAtRest): Encoding {
  const weight = tensors.get('weight');
  if (!weight || tensors.size > 1 || weight.shape.join() !== shape.join()) {
    const found = [...tensors].map(([suffix, tensor]) => `${suffix} [${tensor.shape.join(', ')}]`);
    refuse('a dense matrix', `weight [${shape.join(', ')}]`, found.join(', ') || 'no tensors');
  }
  return dense(weight);
}

function refuse(what: string, expected: string, found: string): never {
  throw new LapidaryError({ what: `this is not ${what}`, expected, found });
}
