/**
 * Round-to-nearest: every weight takes the nearest code of its group's grid. The baseline of its family; needs no data.
 */

import { z } from 'zod';
import { plainly } from '../../rounding/nearest.ts';
import { numberOptions, withGroup } from '../../rounding/options.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';

const options = z.strictObject(numberOptions).transform(withGroup);
export type RtnOptions = z.output<typeof options>;

export const rtn: LinearMethod<RtnOptions> & Named<'rtn', typeof options> = {
  shape: 'linear',
  name: 'rtn',
  summary: 'Round-to-nearest: every weight takes the nearest code; needs no data.',
  options,
  statistic: () => 'none',
  compress: (weight, _statistic, choice) => plainly(weight, choice),
  plain: plainly,
};
