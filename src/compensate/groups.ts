/**
 * GPTQ with everything that the same bytes allow: columns are rounded group by group, those with the largest inputs first;
 * a group's scale and zero point are chosen when its turn comes; at the end all groups are gone over again by coordinate
 * descent, which never raises the error (Behdin et al. 2023, QuantEase, arXiv:2309.01885, for codes; here with scales and
 * zero points). What the LDLQ rounding of QuIP (Chee et al. 2023) is to GPTQ holds without the passes.
 */

import type { PackedCodes } from '../encodings/grouped.ts';
import { groupsOf } from '../encodings/grouped.ts';
import type { Matrix } from '../contract/statistic.ts';
import { descend } from './coordinate-descent.ts';
import { damp } from './cholesky.ts';
import type { Tools } from './columns.ts';
import { factorizeDamped } from './columns.ts';
import { beginGroups, collectGroups } from './parts.ts';
import { byParts, sweep } from './sweep.ts';
import type { GridChoice } from '../rounding/tiles.ts';
import { fitGroups, reserveParameters, toTiles } from '../rounding/tiles.ts';

/** What choosing scales on the way asks for. */
interface RefinedChoice extends GridChoice {
  readonly damping: number;
  readonly blockSize: number;
  readonly passes?: number | undefined;
}

/** Scales are searched in float16, for groups that divide a row. */
export const canRefine = ({ group, scales }: GridChoice, columns: number): boolean =>
  group !== -1 && columns % group === 0 && scales === 'float16';

/**
 * @param gram X^T X, row-major [columns, columns]; overwritten
 */
export async function refineGroups(
  tools: Tools,
  { rows, columns, values }: Matrix,
  gram: Float32Array,
  choice: RefinedChoice,
): Promise<PackedCodes> {
  const { group, damping, passes = 0 } = choice;
  const { kernels } = tools;
  const mean = damp(gram, columns, damping);
  const order = byParts(gram, columns, group);
  const tiles = toTiles(kernels, values, rows, columns);
  const size = Math.ceil(choice.blockSize / group) * group;
  const blocks = await factorizeDamped(tools, gram, mean, { damping, size, order });
  const { stride, weights } = tiles;
  const parameters = reserveParameters(kernels, groupsOf({ columns, group }), stride);
  fitGroups(kernels, { at: weights.at, columns, stride, length: group }, choice, parameters);
  const work = beginGroups(tools, tiles, choice, parameters, order);
  await sweep(work, blocks);
  for (let pass = 0; pass < passes; pass++) await descend(work, gram, size);
  return collectGroups(work, choice);
}
