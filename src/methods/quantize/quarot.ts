/**
 * QuaRot (Ashkboos, Mohtashami, Croci, Li, Cameron, Jaggi, Alistarh, Hoefler, Hensman, 2024, arXiv:2404.00456): random
 * Hadamard rotations spread outliers over all channels. Here what is fused into the weights: of the residual stream and of
 * the values of attention. The paper's rotations at run time (of what down projections read, of queries and keys) are
 * not done: they would be operators that no engine has. A tied head is untied, at the cost of its own bytes: it reads
 * what the last norm gives, whose weight it takes in, and the embedding does not.
 */

import { z } from 'zod';
import type { ModelRewrite, Named } from '../../contract/method.ts';
import { fold } from '../../transform/rotation/fold.ts';
import { rotate } from '../../transform/rotation/rotate.ts';
import { randomHeads, randomStream, withTurner } from '../../transform/rotation/rotation.ts';

const options = z.strictObject({});
export type QuarotOptions = z.infer<typeof options>;

export const quarot: ModelRewrite<QuarotOptions> & Named<'quarot', typeof options> = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'weights',
  name: 'quarot',
  summary:
    'QuaRot (arXiv:2404.00456): random Hadamard rotations of the residual stream and of attention values, fused into the weights; a tied head gets a matrix of its own.',
  options,
  repeats: true,
  followedBy: { method: 'gptq' },
  needsText: () => false,
  rewrite: (model, _options, { seed, session, progress, signal }) =>
    withTurner(session, async (turner) => {
      const folded = fold(model);
      const stream = await randomStream(folded, seed, turner);
      const heads = await randomHeads(folded, seed, turner);
      return rotate(folded, { stream, heads }, { turner, progress, signal });
    }),
};
