/** Experts of mixtures, removed in the plainest way: a token goes to those that are left. */

import { z } from 'zod';
import type { ModelRewrite } from '../../src/contract/method.ts';
import { keepExperts } from '../../src/models/layers.ts';
import type { Model } from '../../src/models/model.ts';
import type { CountedFamily } from './counts.ts';
import { feedForwardOf, weightsIn } from './counts.ts';

const options = z.strictObject({
  remove: z.int().min(1).max(3).default(1).describe('How many experts go.'),
});

/** Of the first layer alone, so that layers differ. */
export const removeExperts: ModelRewrite<z.infer<typeof options>> = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'structure',
  keepsEncodings: true,
  name: 'remove-experts',
  summary: 'Leaves out the first experts of the first layer.',
  options,
  needsText: () => false,
  rewrite: async (model, { remove }) => withoutExperts(model, 0, remove),
};

/** As far as there are more than one. */
function withoutExperts(model: Model, layer: number, remove: number): Model {
  const count = model.config.layers[layer]!.experts?.count ?? 1;
  const kept = Array.from({ length: count }, (_, expert) => expert).slice(Math.min(remove, count - 1));
  return count === kept.length ? model : keepExperts(model, layer, kept);
}

export const experts: CountedFamily = {
  name: 'experts',
  title: 'Fewer experts',
  baseline: removeExperts,
  methods: [removeExperts],
  tried: {
    model_type: 'qwen3_moe',
    num_experts: 4,
    num_experts_per_tok: 2,
    intermediate_size: 64,
  },
  adds: {
    'remove-experts': ({ hidden, layers: [first] }) =>
      -weightsIn([...feedForwardOf(hidden, first!), [1, hidden]]),
  },
};
