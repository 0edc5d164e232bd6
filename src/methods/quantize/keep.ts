/**
 * What is quantized already, taken over: matrices stay as they are stored, or become what the format holds of the same
 * values, to the bit. Floats stay floats.
 */

import { z } from 'zod';
import { checkFiniteMatrix } from '../../base/finite.ts';
import { stored } from '../../base/tensor.ts';
import { inGroups } from '../../encodings/blocks/index.ts';
import { dense, lazyValues } from '../../encodings/dense.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';

const options = z.strictObject({
  form: z
    .enum(['groups', 'stored', 'floats'])
    .default('groups')
    .describe(
      "What ggml's blocks become: integers in groups, which most formats hold; as they are stored; or floats, as all else, too.",
    ),
  strict: z
    .boolean()
    .default(true)
    .describe('Refuses what the format does not hold exactly; else what is recommended compresses it.'),
});
export type KeepOptions = z.infer<typeof options>;

const inFloats = (encoding: Encoding): Encoding =>
  encoding.bits >= 16 ? encoding : dense(lazyValues(encoding.shape, () => encoding.dense()));

/** What it came to is asked for before the work and in it. */
const known = new WeakMap<Encoding, Encoding>();

export const keep: LinearMethod<KeepOptions> & Named<'keep', typeof options> = {
  shape: 'linear',
  name: 'keep',
  summary: 'Takes over what is quantized already, without loss; what is stored as floats stays so.',
  options,
  statistic: () => 'none',
  convert(encoding, { form }) {
    if (form === 'stored') return encoding;
    if (form === 'floats') return inFloats(encoding);
    const found = known.get(encoding) ?? inGroups(encoding);
    known.set(encoding, found);
    return found;
  },
  async compress({ rows, columns, plain, values }) {
    const floats = plain ?? stored('float32', [rows, columns], values);
    checkFiniteMatrix('weights', floats, columns);
    return dense(floats);
  },
};
