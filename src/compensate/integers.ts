/**
 * Rounding to grouped integers with errors compensated (GPTQ: Frantar et al. 2022, arXiv:2210.17323), for every method
 * that rounds so: columns are rounded one after the other, and what rounding changes in the layer's output is taken back
 * by the columns that follow,
 *   w_F -= (w_q - quant(w_q)) / [H_F^-1]_qq (H_F^-1)_qF,   H = 2 X X^T + damping.
 * Blocks of columns are walked left-looking; see cholesky.ts for the algebra and kernels/compensate.ts for the block.
 */

import { z } from 'zod';
import { defaultThreads } from '../base/threads.ts';
import type { PackedCodes } from '../encodings/grouped.ts';
import { groupsOf } from '../encodings/grouped.ts';
import type { Matrix } from '../contract/statistic.ts';
import { damping, gridOptions, passes } from '../rounding/options.ts';
import type { GridChoice } from '../rounding/tiles.ts';
import {
  checkWeights,
  collect,
  fitGroups,
  groupLength,
  reserveParameters,
  toTiles,
} from '../rounding/tiles.ts';
import { damp } from './cholesky.ts';
import type { Rounding, Tools } from './columns.ts';
import { byDiagonal, checkGram, compensateBlocks, factorizeDamped, inverted, withTools } from './columns.ts';
import { canRefine, refineGroups } from './groups.ts';

/** In which order columns are rounded, and how far their errors reach at once. */
export const columnOptions = {
  activationOrder: z
    .boolean()
    .default(true)
    .describe(
      'Rounds the columns with the largest inputs first; with groups, their grids are fixed beforehand.',
    ),
  staticGroups: z.boolean().default(false).describe('Fits all groups before the first column is rounded.'),
  damping,
  passes,
  blockSize: z
    .int()
    .min(16)
    .max(256)
    .multipleOf(16)
    .default(128)
    .describe('Columns between two updates of all that follow; at least a group.'),
};

const schema = z.object({ ...gridOptions, ...columnOptions });

/** With the defaults of what was not chosen. */
export const integerChoice = (choice: z.input<typeof schema>): IntegerChoice => schema.parse(choice);

/** What rounding to integers asks for. */
export interface IntegerChoice extends GridChoice {
  readonly activationOrder: boolean;
  readonly staticGroups: boolean;
  readonly damping: number;
  readonly blockSize: number;
  readonly passes?: number | undefined;
}

/**
 * @param gram X^T X, row-major [columns, columns]; overwritten
 * @param threads see `withKernels`; the result does not depend on it
 */
export async function compensateIntegers(
  weight: Matrix,
  gram: Float32Array,
  choice: IntegerChoice,
  threads = defaultThreads(),
): Promise<PackedCodes> {
  checkGram(weight, gram);
  const refined = (choice.passes ?? 0) > 0 && canRefine(choice, weight.columns);
  const round = refined ? refineGroups : roundColumns;
  const found = await withTools(threads, (tools) => round(tools, weight, gram, choice));
  checkWeights(weight, found);
  return found;
}

async function roundColumns(
  tools: Tools,
  { rows, columns, values }: Matrix,
  gram: Float32Array,
  choice: IntegerChoice,
): Promise<PackedCodes> {
  const { kernels } = tools;
  const mean = damp(gram, columns, choice.damping);
  const order = choice.activationOrder ? byDiagonal(gram, columns) : undefined;
  const tiles = toTiles(kernels, values, rows, columns);
  const size = Math.max(choice.blockSize, choice.group);
  const blocks = await factorizeDamped(tools, gram, mean, { damping: choice.damping, size, order });

  const length = groupLength(choice, columns);
  const parameters = reserveParameters(kernels, groupsOf({ columns, group: choice.group }), tiles.stride);
  const fixed = choice.group === -1 || choice.staticGroups || choice.activationOrder;
  if (fixed)
    fitGroups(kernels, { at: tiles.weights.at, columns, stride: tiles.stride, length }, choice, parameters);
  const fit: Rounding['fit'] = (at, start, count) =>
    fitGroups(
      kernels,
      { at, columns: count, stride: tiles.stride, length },
      choice,
      parameters,
      start / length,
    );
  const codes = await compensateBlocks(tools, tiles, blocks, {
    kernel: 'compensate',
    parameters: [parameters.scales.at, parameters.zeros.at],
    last: 2 ** choice.bits - 1,
    order,
    length,
    fit: fixed ? undefined : fit,
  });
  return collect(kernels, tiles, choice, codes, parameters, order && inverted(kernels, order));
}
