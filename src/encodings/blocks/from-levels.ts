/**
 * Number formats that ggml has blocks for, without loss: MXFP4 as it is, ternary weights as the integers that they are.
 */

import { LapidaryError } from '../../base/errors.ts';
import { stored } from '../../base/tensor.ts';
import type { Encoding } from '../encoding.ts';
import type { UnpackedGroups } from '../grouped.ts';
import type { Unlevelled } from '../levels.ts';
import { blockEncoding } from './encoding.ts';
import { blockTypeNamed } from './table.ts';

/** MXFP4's blocks: a scale's code, then 32 codes. @throws LapidaryError where rows are no whole blocks */
export function mxfp4Blocks({ rows, columns, codes, scaleCodes }: Unlevelled): Encoding {
  const type = blockTypeNamed('MXFP4');
  if (columns % type.size !== 0) {
    throw new LapidaryError({
      what: 'these rows are no whole blocks of ggml',
      where: `matrix [${rows}, ${columns}]`,
      expected: `a multiple of ${type.size} weights`,
      found: `${columns}`,
    });
  }
  const blocks = new Uint8Array(scaleCodes!.length * type.bytes);
  scaleCodes!.forEach((code, block) => {
    blocks[block * type.bytes] = code;
  });
  const bytes = type.pack(codes, { blocks });
  return blockEncoding(type, [rows, columns], stored('uint8', [rows, bytes.length / rows], bytes));
}

/** Whole numbers as `ungrouped` gives them. */
export function levelsAsIntegers({
  rows,
  columns,
  length,
  group,
  codes,
  scales,
  format,
}: Unlevelled): UnpackedGroups {
  const perRow = group === 'tensor' ? 1 : scales.length / rows;
  return {
    rows,
    columns,
    bits: format.bits,
    length,
    codes,
    scales: group === 'tensor' ? new Float32Array(rows).fill(scales[0]) : scales,
    zeros: new Uint8Array(rows * perRow).fill(2 ** (format.bits - 1)),
  };
}
