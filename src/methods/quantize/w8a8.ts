/**
 * W8A8: 8-bit integer weights with a scale for each row, multiplied by 8-bit integer inputs. Inputs have a scale for each
 * token, found when the model runs (dynamic), or one for the layer, from calibration (static).
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';
import { compensateIntegers, integerChoice } from '../../compensate/integers.ts';
import { gridOptions } from '../../rounding/options.ts';
import { integersOf, nearest, rowGrid } from '../../rounding/rows.ts';

const options = z.strictObject({
  inputs: z
    .enum(['dynamic', 'static'])
    .default('dynamic')
    .describe(
      'Inputs have a scale for each token (dynamic), or one for the layer, from calibration (static).',
    ),
  rounding: z
    .enum(['nearest', 'compensated'])
    .default('nearest')
    .describe(
      'Weights take the nearest code, or make up for the errors of others, as GPTQ does (compensated).',
    ),
  range: gridOptions.range,
});
export type W8a8Options = z.infer<typeof options>;

export const w8a8: LinearMethod<W8a8Options> & Named<'w8a8', typeof options> = {
  shape: 'linear',
  name: 'w8a8',
  summary:
    'W8A8: 8-bit integers for weights, by row, and for inputs, by token or by layer; integer products (ZeroQuant, arXiv:2206.01861).',
  options,
  statistic: ({ inputs, rounding }) => {
    if (rounding === 'compensated') return inputs === 'static' ? 'full' : 'gram';
    return inputs === 'static' ? 'norm' : 'none';
  },
  async compress(weight, { gram, peaks }, { inputs, rounding, range }) {
    const input = inputs === 'static' ? inputScale(peaks) : undefined;
    if (rounding === 'nearest') return integersOf(await nearest(weight, range), input);
    if (!gram) throw new LapidaryError({ what: 'w8a8 needs the Gram matrix of the layer inputs' });
    const choice = integerChoice({ ...rowGrid, range });
    return integersOf(await compensateIntegers(weight, gram, choice), input);
  },
  plain: async (weight, { range }) => integersOf(await nearest(weight, range)),
};

/** So that the largest input that calibration saw takes the largest code; any where it saw none. */
function inputScale(peaks: Float32Array | undefined): number {
  if (!peaks) throw new LapidaryError({ what: 'w8a8 needs the largest inputs of the layer' });
  const largest = peaks.reduce((most, peak) => Math.max(most, peak), 0);
  return largest > 0 ? largest / 127 : 1;
}
