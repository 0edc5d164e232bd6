/**
 * GPTQ (Frantar, Ashkboos, Hoefler, Alistarh, 2022, arXiv:2210.17323): columns are rounded one after the other, and
 * what rounding changes in the layer's output is taken back by the columns that follow,
 *   w_F -= (w_q - quant(w_q)) / [H_F^-1]_qq (H_F^-1)_qF,   H = 2 X X^T + damping.
 * Blocks of columns are walked left-looking; see factor.ts for the algebra and kernels/compensate.ts for the block.
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import { defaultThreads } from '../../base/threads.ts';
import type { PackedCodes } from '../../encodings/grouped.ts';
import { groupsOf } from '../../encodings/grouped.ts';
import type { LinearMethod, Matrix } from '../contract.ts';
import type { Rounding, Tools } from './columns.ts';
import { byDiagonal, checkGram, compensateBlocks, factorizeDamped, inverted, withTools } from './columns.ts';
import { damp } from './factor.ts';
import { compensateLevels } from './levels.ts';
import { compensation, damping, numberOptions, passes, withGroup } from './options.ts';
import { correctedWeight } from './gptaq.ts';
import { canRefine, refineGroups } from './refine.ts';
import { integersIn, plainly } from './rtn.ts';
import type { GridChoice } from './tiles.ts';
import { checkWeights, collect, fitGroups, groupLength, reserveParameters, toTiles } from './tiles.ts';

const schema = z.strictObject({
  ...numberOptions,
  activationOrder: z
    .boolean()
    .default(true)
    .describe(
      'Rounds the columns with the largest inputs first; with groups, their grids are fixed beforehand.',
    ),
  staticGroups: z.boolean().default(false).describe('Fits all groups before the first column is rounded.'),
  damping,
  passes,
  ...compensation,
  blockSize: z
    .int()
    .min(16)
    .max(256)
    .multipleOf(16)
    .default(128)
    .describe('Columns between two updates of all that follow; at least a group.'),
});
const options = schema.transform(withGroup);
export type GptqOptions = z.output<typeof options>;

/** What rounding to integers asks for. */
export interface IntegerChoice
  extends GridChoice, Pick<GptqOptions, 'activationOrder' | 'staticGroups' | 'damping' | 'blockSize'> {
  readonly passes?: number | undefined;
}

export const gptq: LinearMethod<GptqOptions> = {
  shape: 'linear',
  name: 'gptq',
  summary:
    'GPTQ (arXiv:2210.17323): rounds column by column, later columns make up for the error of earlier ones.',
  options,
  statistic: ({ asymmetric }) => (asymmetric > 0 ? 'cross' : 'gram'),
  fisher: ({ fisher }) => fisher,
  sequential: ({ sequential }) => sequential,
  async compress(weight, { gram, cross }, choice) {
    if (!gram) throw new LapidaryError({ what: 'gptq needs the Gram matrix of the layer inputs' });
    const target = cross ? await correctedWeight(weight, gram, cross, choice) : weight;
    const { numbers } = choice;
    return numbers === 'integers'
      ? integersIn(choice, await quantize(target, gram, choice))
      : compensateLevels(target, gram, { ...choice, numbers });
  },
  plain: plainly,
};

/**
 * @param gram X^T X, row-major [columns, columns]; overwritten
 * @param threads see `withKernels`; the result does not depend on it
 */
export async function quantize(
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
