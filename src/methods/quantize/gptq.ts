/**
 * GPTQ (Frantar, Ashkboos, Hoefler, Alistarh, 2022, arXiv:2210.17323): columns are rounded one after the other, and
 * what rounding changes in the layer's output is taken back by the columns that follow.
 * The rounding itself: src/compensate/integers.ts, and levels.ts there for number formats.
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import { correctedWeight } from '../../compensate/asymmetric.ts';
import { columnOptions, compensateIntegers } from '../../compensate/integers.ts';
import { compensateLevels } from '../../compensate/levels.ts';
import { integersIn, plainly } from '../../rounding/nearest.ts';
import { compensation, numberOptions, withGroup } from '../../rounding/options.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';

const { activationOrder, staticGroups, damping, passes, blockSize } = columnOptions;
const schema = z.strictObject({
  ...numberOptions,
  activationOrder,
  staticGroups,
  damping,
  passes,
  ...compensation,
  blockSize,
});
const options = schema.transform(withGroup);
export type GptqOptions = z.output<typeof options>;

export const gptq: LinearMethod<GptqOptions> & Named<'gptq', typeof options> = {
  shape: 'linear',
  name: 'gptq',
  summary:
    'GPTQ (arXiv:2210.17323): rounds column by column, later columns make up for the error of earlier ones.',
  options,
  statistic: ({ asymmetric }) => (asymmetric > 0 ? 'cross' : 'gram'),
  fisher: ({ fisher }) => fisher,
  compared: ({ compared }) => compared,
  sequential: ({ sequential }) => sequential,
  async compress(weight, { gram, cross, comparedGram }, choice) {
    if (!gram) throw new LapidaryError({ what: 'gptq needs the Gram matrix of the layer inputs' });
    const target = cross ? await correctedWeight(weight, comparedGram ?? gram, cross, choice) : weight;
    const { numbers } = choice;
    return numbers === 'integers'
      ? integersIn(choice, await compensateIntegers(target, gram, choice))
      : compensateLevels(target, gram, { ...choice, numbers });
  },
  plain: plainly,
};
