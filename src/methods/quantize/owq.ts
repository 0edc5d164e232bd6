/**
 * OWQ (Lee, Jin, Kim, Kim, Park, 2023, arXiv:2306.02272): the columns whose rounding would cost most, lambda_j |dW_j|^2 with
 * lambda the diagonal of the Gram matrix, are kept in float16, and GPTQ rounds the others. The authors round the kept
 * columns last of all, which is to say never, so that they take up what the others lost; here the others are rounded
 * with these taken out of the Gram matrix, and the kept ones are solved for. The same problem, and no order to keep.
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import { withColumns } from '../../encodings/composite.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';
import type { Matrix } from '../../contract/statistic.ts';
import { compensateIntegers, integerChoice } from '../../compensate/integers.ts';
import { fitColumns, freeColumns } from '../../compensate/least-squares.ts';
import { largest, takeColumns } from '../../rounding/columns-apart.ts';
import { damping, gridOptions, passes } from '../../rounding/options.ts';
import { roundToNearest } from '../../rounding/nearest.ts';

const options = z.strictObject({
  ...gridOptions,
  share: z.number().min(0).max(0.5).default(0.01).describe('Share of columns that is kept in float16.'),
  damping,
  passes: passes.default(4),
});
export type OwqOptions = z.infer<typeof options>;

export const owq: LinearMethod<OwqOptions> & Named<'owq', typeof options> = {
  shape: 'linear',
  name: 'owq',
  summary: 'OWQ (arXiv:2306.02272): GPTQ, with the columns that rounding would hurt most kept in float16.',
  options,
  statistic: () => 'gram',
  async compress(weight, { gram }, { share, ...choice }) {
    if (!gram) throw new LapidaryError({ what: 'owq needs the Gram matrix of the layer inputs' });
    const { rows, columns: width } = weight;
    const grid = { ...choice, group: -1, scales: 'float32' } as const;
    const rounded = groupedPacked(await roundToNearest(weight, grid)).dense();
    const columns = largest(costs(weight, rounded, gram), Math.round(share * width));
    const fit = await freeColumns(gram, columns, choice.damping);
    const original = { rows, columns: width, values: weight.values.slice() };
    takeColumns(weight, columns);
    const base = groupedPacked(await compensateIntegers(weight, gram, integerChoice(choice)));
    return withColumns(base, { columns, values: await fitColumns(original, base.dense(), fit) });
  },
  plain: async (weight, choice) => groupedPacked(await roundToNearest(weight, choice)),
};

/** lambda_j |dW_j|^2 of each column. */
function costs({ columns, values }: Matrix, rounded: Float32Array, gram: Float32Array): Float64Array {
  const sums = new Float64Array(columns);
  for (let at = 0; at < values.length; at++) sums[at % columns] += (values[at] - rounded[at]) ** 2;
  return sums.map((sum, column) => sum * gram[column * columns + column]);
}
