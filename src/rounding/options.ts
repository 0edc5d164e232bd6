/** Options that the methods which choose codes on an integer grid have in common. */

import { z } from 'zod';
import { scaleTypes } from '../encodings/grid.ts';
import type { GroupSize } from '../encodings/grouped.ts';
import { groupSizes } from '../encodings/grouped.ts';
import { numberFormats } from '../encodings/levels/numbers.ts';
import { numberNames } from '../encodings/levels.ts';

const groups = z.literal([-1, ...groupSizes]);

export const gridOptions = {
  bits: z
    .union([z.literal(2), z.literal(3), z.literal(4), z.literal(8)])
    .default(4)
    .describe('Bits of a weight; 3 is stored in 4.'),
  group: groups.default(32).describe('Weights along a row that share a scale; -1 for the whole row.'),
  symmetric: z.boolean().default(false).describe('No zero points: codes lie evenly around zero.'),
  range: z
    .enum(['minmax', 'mse'])
    .default('mse')
    .describe('Range of the codes: all values (minmax), or the part of it with the least error (mse).'),
  scales: z
    .enum(scaleTypes)
    .default('float16')
    .describe(
      'Type that scales are rounded to; short: float16 with fewer digits, as Q4_1 of GGUF files needs; byte: with four digits, which spqr stores in 8 bits.',
    ),
};

/** For methods that round onto other numbers than integers, too: these decide bits and zero points, and some the group. */
export const numberOptions = {
  ...gridOptions,
  numbers: z
    .enum(['integers', ...numberNames])
    .default('integers')
    .describe('What codes stand for: integers on a grid, or the values of a number format.'),
  group: groups
    .optional()
    .describe(
      'Weights along a row that share a scale; -1 for the whole row. Left out: 32, or what the number format has.',
    ),
};

/** With the group that the numbers have, where none was asked for. */
export function withGroup<T extends { readonly numbers: string; readonly group?: GroupSize | undefined }>(
  choice: T,
): T & { readonly group: GroupSize } {
  const own = numberFormats.get(choice.numbers)?.group as GroupSize | undefined;
  return { ...choice, group: choice.group ?? own ?? 32 };
}

/** What of `numberOptions` was chosen, each option by its default where it was not. */
export type NumberChoice = z.output<z.ZodObject<typeof numberOptions>> & { readonly group: GroupSize };

export const fisher = z
  .number()
  .min(0)
  .max(1)
  .default(0)
  .describe(
    'Share by which calibration tokens count by how much predictions hang on them, not all alike (GuidedQuant, YAQA).',
  );

/** Of what error-compensating methods are fitted to. */
export const compensation = {
  asymmetric: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe('Share of what earlier layers lost that is made up for, too (GPTAQ).'),
  compared: z
    .number()
    .gt(0)
    .max(1)
    .default(1)
    .describe(
      'Share of the calibration text on which that loss is measured, for which the original runs, too.',
    ),
  fisher,
  sequential: z
    .boolean()
    .default(true)
    .describe('Compresses the layers of a block in the order they run, each fed by those before it.'),
};

export const damping = z
  .number()
  .min(0)
  .max(1)
  .default(0.01)
  .describe('Share of the mean diagonal of the Gram matrix that is added to the diagonal.');

export const passes = z
  .int()
  .min(0)
  .max(20)
  .default(0)
  .describe(
    'Chooses scales and zero points on the way, then goes over all groups so often again by coordinate descent. Without effect where groups do not divide rows, or scales are not float16.',
  );
