/**
 * Rounding to number formats with errors compensated, column by column as GPTQ does (Frantar et al. 2022,
 * arXiv:2210.17323).
 */

import { checkFiniteMatrix } from '../base/finite.ts';
import { defaultThreads } from '../base/threads.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { groupsOf } from '../encodings/grouped.ts';
import type { Matrix } from '../contract/statistic.ts';
import type { LevelChoice, LevelCodes, LevelWork } from '../rounding/levels.ts';
import {
  encodedLevels,
  fitLevels,
  gatherLevels,
  levelWork,
  putTable,
  reserveScales,
} from '../rounding/levels.ts';
import { groupLength, toTiles } from '../rounding/tiles.ts';
import { damp } from './cholesky.ts';
import type { Tools } from './columns.ts';
import { byDiagonal, checkGram, compensateBlocks, factorizeDamped, inverted, withTools } from './columns.ts';

export interface CompensatedChoice extends LevelChoice {
  readonly activationOrder: boolean;
  readonly staticGroups: boolean;
  readonly damping: number;
  readonly blockSize: number;
}

/**
 * Column by column; later columns make up for the error of earlier ones.
 * @param gram X^T X, row-major [columns, columns]; overwritten
 * @param threads see `withKernels`; the result does not depend on it
 * @throws LapidaryError where the Gram matrix is none, and on weights that are not finite
 */
export async function compensateLevels(
  weight: Matrix,
  gram: Float32Array,
  choice: CompensatedChoice,
  threads = defaultThreads(),
): Promise<Encoding> {
  checkGram(weight, gram);
  checkFiniteMatrix('weights', weight.values, weight.columns);
  const work = levelWork(weight, choice);
  return withTools(threads, async (tools) =>
    encodedLevels(weight, work, await roundColumns(tools, weight, gram, choice, work)),
  );
}

async function roundColumns(
  tools: Tools,
  { rows, columns, values }: Matrix,
  gram: Float32Array,
  choice: CompensatedChoice,
  work: LevelWork,
): Promise<LevelCodes> {
  const { kernels } = tools;
  const mean = damp(gram, columns, choice.damping);
  const order = choice.activationOrder ? byDiagonal(gram, columns) : undefined;
  const tiles = toTiles(kernels, values, rows, columns);
  const { stride, weights } = tiles;
  const size = Math.max(choice.blockSize, work.spans);
  const blocks = await factorizeDamped(tools, gram, mean, { damping: choice.damping, size, order });
  const table = putTable(kernels, work);
  const scales = reserveScales(kernels, groupsOf({ columns, group: work.spans }), stride);
  const fixed = work.spans === -1 || choice.staticGroups || choice.activationOrder;
  if (fixed) fitLevels(kernels, { at: weights.at, columns, stride }, work, table, scales);
  const length = groupLength({ group: work.spans }, columns);
  const codes = await compensateBlocks(tools, tiles, blocks, {
    kernel: 'compensateLevels',
    parameters: [scales.at, table.at],
    last: work.format.table.size,
    order,
    length,
    fit: fixed
      ? undefined
      : (at, start, count) =>
          fitLevels(kernels, { at, columns: count, stride }, work, table, scales, start / length),
  });
  return gatherLevels(kernels, tiles, work, codes, scales, order && inverted(kernels, order));
}
