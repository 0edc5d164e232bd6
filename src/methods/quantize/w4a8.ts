/**
 * Weights in few bits by GPTQ, inputs in few bits by rounding each token: what models are prepared for by rotations and
 * smoothing. ONNX Runtime has no product of 4-bit and 8-bit integers with scales by token, so the file rounds the inputs
 * in plain operators and multiplies as for any grouped integers: the loss is shown, not the speed.
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import { roundedActivations } from '../../encodings/rounded.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';
import { compensateIntegers, integerChoice } from '../../compensate/integers.ts';
import { gridOptions } from '../../rounding/options.ts';
import { roundToNearest } from '../../rounding/nearest.ts';

const options = z.strictObject({
  ...gridOptions,
  inputBits: z
    .union([z.literal(4), z.literal(6), z.literal(8)])
    .default(8)
    .describe('Bits of inputs, which have a scale for each token.'),
});
export type W4a8Options = z.infer<typeof options>;

export const w4a8: LinearMethod<W4a8Options> & Named<'w4a8', typeof options> = {
  shape: 'linear',
  name: 'w4a8',
  summary: 'GPTQ (arXiv:2210.17323) for weights, and inputs rounded to 8 or fewer bits, token by token.',
  options,
  statistic: () => 'gram',
  async compress(weight, { gram }, { inputBits, ...grid }) {
    if (!gram) throw new LapidaryError({ what: 'w4a8 needs the Gram matrix of the layer inputs' });
    const codes = await compensateIntegers(weight, gram, integerChoice(grid));
    return roundedActivations(groupedPacked(codes), { bits: inputBits });
  },
  plain: async (weight, { inputBits, ...grid }) =>
    roundedActivations(groupedPacked(await roundToNearest(weight, grid)), { bits: inputBits }),
};
