/** Options that the methods which choose codes on an integer grid have in common. */

import { z } from 'zod';
import { scaleTypes } from '../../encodings/grid.ts';
import type { GroupSize } from '../../encodings/grouped.ts';
import { groupSizes } from '../../encodings/grouped.ts';

export const gridOptions = {
  bits: z
    .union([z.literal(2), z.literal(3), z.literal(4), z.literal(8)])
    .default(4)
    .describe('Bits of a weight; 3 is stored in 4.'),
  group: z
    .union([z.literal(-1), ...groupSizes.map((size) => z.literal(size))])
    .default(32)
    .describe('Weights along a row that share a scale; -1 for the whole row.') as z.ZodType<GroupSize>,
  symmetric: z.boolean().default(false).describe('No zero points: codes lie evenly around zero.'),
  range: z
    .enum(['minmax', 'mse'])
    .default('mse')
    .describe('Range of the codes: all values (minmax), or the part of it with the least error (mse).'),
  scales: z
    .enum(scaleTypes)
    .default('float16')
    .describe(
      'Type that scales are rounded to; short: float16 with fewer digits, as Q4_1 of GGUF files needs.',
    ),
};
