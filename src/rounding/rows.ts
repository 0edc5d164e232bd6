/** 8-bit integers around zero with one scale for each row, which integer products multiply as they are. */

import type { Encoding } from '../encodings/encoding.ts';
import type { PackedCodes } from '../encodings/grouped.ts';
import { integers } from '../encodings/integer.ts';
import type { Matrix } from '../contract/statistic.ts';
import { roundToNearest } from './nearest.ts';
import type { GridChoice } from './tiles.ts';

/** A row has one scale, which is kept in float32. */
export const rowGrid = { bits: 8, group: -1, symmetric: true, scales: 'float32' } as const;

/** Codes of whole rows, the nearest ones. */
export const nearest = (weight: Matrix, range: GridChoice['range']): Promise<PackedCodes> =>
  roundToNearest(weight, { ...rowGrid, range });

/** 8-bit codes of whole rows around 128 as integers. */
export function integersOf({ rows, columns, packed, scales }: PackedCodes, input?: number): Encoding {
  const pitch = packed.length / rows;
  const codes = new Int8Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      codes[row * columns + column] = packed[row * pitch + column] - 128;
  }
  return integers({ rows, columns, codes, scales, input });
}
