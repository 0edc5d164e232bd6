/**
 * SpQR (Dettmers, Svirschevski, Egiazarian and others, 2023, arXiv:2306.03078): single weights whose rounding would cost most,
 * by (w - q)^2 / [H^-1]_jj over their group, are kept in float16, and GPTQ rounds the others in small groups, whose ranges
 * the kept ones no longer widen. The share of weights that is kept is given, where the authors give a threshold. When all
 * others are rounded, the kept ones take the values that make up best for what that did to their row, which the authors
 * leave out.
 *
 * The authors store scales and zero points of groups of 16 in 3 bits each, with a second level of four float16 over 16
 * groups: 0.63 bits a weight. ONNX Runtime takes zero points in the bits of codes and a float for each scale, which is
 * stored in 8 bits here and widened when a file is loaded: 0.75 bits a weight with groups of 16 and four-bit codes.
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import { defaultThreads } from '../../base/threads.ts';
import type { KeptWeights } from '../../encodings/composite.ts';
import { withSparse } from '../../encodings/composite.ts';
import { groupedInBytes } from '../../encodings/byte-scales.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';
import type { Matrix } from '../../contract/statistic.ts';
import { damp } from '../../compensate/cholesky.ts';
import { byDiagonal, factorizeDamped, withTools } from '../../compensate/columns.ts';
import { compensateIntegers, integerChoice } from '../../compensate/integers.ts';
import { fitPlaces, meanDiagonal } from '../../compensate/least-squares.ts';
import { savings } from '../../compensate/leave-one-out.ts';
import { damping, gridOptions, passes } from '../../rounding/options.ts';
import { roundToNearest } from '../../rounding/nearest.ts';
import { groupLength } from '../../rounding/tiles.ts';

const options = z.strictObject({
  ...gridOptions,
  group: gridOptions.group.default(16),
  scales: gridOptions.scales.default('byte'),
  share: z.number().min(0).max(0.2).default(0.01).describe('Share of weights that is kept in float16.'),
  damping,
  passes: passes.default(4),
});
export type SpqrOptions = z.infer<typeof options>;

export const spqr: LinearMethod<SpqrOptions> & Named<'spqr', typeof options> = {
  shape: 'linear',
  name: 'spqr',
  summary:
    'SpQR (arXiv:2306.03078): GPTQ in small groups, with the weights that rounding would hurt most kept in float16.',
  options,
  statistic: () => 'gram',
  async compress(weight, { gram }, { share, ...choice }) {
    if (!gram) throw new LapidaryError({ what: 'spqr needs the Gram matrix of the layer inputs' });
    const importance = await sensitivities(gram, choice.damping);
    const { bits, symmetric } = choice;
    const rule = { length: groupLength(choice, weight.columns), top: 2 ** bits - 1, symmetric };
    const saved = savings(weight, importance, rule);
    const kept = largestOf(saved, weight, Math.round(share * weight.values.length));
    const original = weight.values.slice();
    for (let row = 0; row < weight.rows; row++) {
      for (let i = kept.starts[row]; i < kept.starts[row + 1]; i++)
        weight.values[row * weight.columns + kept.columns[i]] = 0;
    }
    const codes = await compensateIntegers(weight, gram.slice(), integerChoice(choice));
    const base = choice.scales === 'byte' ? groupedInBytes(codes) : groupedPacked(codes);
    fit({ ...weight, values: original }, base.dense(), gram, choice.damping, kept);
    return withSparse(base, kept);
  },
  plain: async (weight, choice) => groupedPacked(await roundToNearest(weight, choice)),
};

/** 1 / [H_F^-1]_jj of each column, F being the columns that GPTQ has not rounded when it comes to this one. */
async function sensitivities(gram: Float32Array, damping: number): Promise<Float64Array> {
  const n = Math.sqrt(gram.length);
  const diagonal = Float32Array.from({ length: n }, (_, i) => gram[i * n + i]);
  const found = new Float64Array(n);
  await withTools(defaultThreads(), async (tools) => {
    const mean = damp(gram, n, damping);
    const order = byDiagonal(gram, n);
    const blocks = await factorizeDamped(tools, gram, mean, { damping, size: 128, order });
    for (const { start, end, inverse, pitch } of blocks) {
      const triangle = tools.kernels.floats(inverse);
      for (let i = 0; i < end - start; i++) found[order[start + i]] = 1 / triangle[i * pitch + i] ** 2;
    }
  });
  diagonal.forEach((value, i) => {
    gram[i * n + i] = value;
  });
  return found;
}

/** Where the `count` largest costs are, row after row; of equal ones the first. Values are yet to be found. */
function largestOf(
  costs: Float32Array,
  { rows, columns }: Pick<Matrix, 'rows' | 'columns'>,
  count: number,
): KeptWeights {
  const least = count === 0 ? Number.POSITIVE_INFINITY : costs.toSorted().at(-count)!;
  let equal = count - costs.reduce((larger, cost) => larger + (cost > least ? 1 : 0), 0);
  const starts = new Int32Array(rows + 1);
  const found = new Int32Array(count);
  for (let row = 0, at = 0, n = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      if (costs[at] > least || (costs[at] === least && equal-- > 0)) found[n++] = column;
    }
    starts[row + 1] = n;
  }
  return { starts, columns: found, values: new Float32Array(count) };
}

/** Gives the kept weights of each row the values that leave the least error of its outputs. */
function fit(
  { rows, columns: n, values }: Matrix,
  rounded: Float32Array,
  gram: Float32Array,
  damping: number,
  { starts, columns, values: target }: KeptWeights,
): void {
  const added = damping * meanDiagonal(gram, n);
  for (let row = 0; row < rows; row++) {
    const [from, to] = [starts[row], starts[row + 1]];
    if (from === to) continue;
    const difference = Float32Array.from({ length: n }, (_, i) => values[row * n + i] - rounded[row * n + i]);
    fitPlaces(gram, difference, columns.subarray(from, to), added, target.subarray(from, to));
  }
}
