/**
 * LLM.int8() (Dettmers, Lewis, Belkada, Zettlemoyer, 2022, arXiv:2208.07339): the few inputs that grow far larger than the
 * others keep float16 weights, and no longer set the scale of all others' 8 bits. The authors look for them in every
 * batch; here calibration finds them once, so that the columns can be stored apart.
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import { checkFiniteMatrix } from '../../base/finite.ts';
import { withColumns } from '../../encodings/composite.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';
import { gridOptions } from '../../rounding/options.ts';
import { largest, takeColumns } from '../../rounding/columns-apart.ts';
import { integersOf, nearest } from '../../rounding/rows.ts';

const options = z.strictObject({
  threshold: z
    .number()
    .min(0)
    .max(1000)
    .default(6)
    .describe('Columns whose inputs ever are larger than this are kept in float16.'),
  share: z
    .number()
    .min(0)
    .max(0.5)
    .default(0)
    .describe(
      'Share of columns that is kept, those with the largest inputs; above 0 instead of the threshold.',
    ),
  range: gridOptions.range,
});
export type LlmInt8Options = z.infer<typeof options>;

export const llmInt8: LinearMethod<LlmInt8Options> & Named<'llm-int8', typeof options> = {
  shape: 'linear',
  name: 'llm-int8',
  summary:
    'LLM.int8() (arXiv:2208.07339): 8-bit integers for weights and inputs, columns with large inputs in float16.',
  options,
  statistic: () => 'norm',
  async compress(weight, { peaks }, { threshold, share, range }) {
    if (!peaks) throw new LapidaryError({ what: 'llm-int8 needs the largest inputs of each column' });
    const columns = share > 0 ? largest(peaks, Math.round(share * peaks.length)) : above(peaks, threshold);
    checkFiniteMatrix('weights', weight.values, weight.columns);
    const values = takeColumns(weight, columns);
    const base = integersOf(await nearest(weight, range));
    return columns.length === 0 ? base : withColumns(base, { columns, values });
  },
  plain: async (weight, { range }) => integersOf(await nearest(weight, range)),
};

const above = (peaks: Float32Array, threshold: number): Int32Array =>
  Int32Array.from([...peaks.keys()].filter((column) => peaks[column] > threshold));
