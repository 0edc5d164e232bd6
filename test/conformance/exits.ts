/** Early exits in their plainest form, the logit lens (nostalgebraist 2020): what the last head makes of earlier hidden states. */

import { z } from 'zod';
import type { ModelRewrite } from '../../src/contract/method.ts';
import { addExit } from '../../src/models/exits.ts';
import type { Model } from '../../src/models/model.ts';
import type { CountedFamily } from './counts.ts';

const middle = ({ config }: Model) => Math.floor((config.layers.length - 1) / 2);

const shared = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'structure',
  keepsEncodings: true,
  options: z.strictObject({}),
  needsText: () => false,
} as const;

export const addSharedExit: ModelRewrite = {
  ...shared,
  name: 'add-exit',
  summary: 'Puts the last head behind the middle layer, too, with a norm of its own.',
  rewrite: async (model) => addExit(model, middle(model)),
};

export const addOwnExit: ModelRewrite = {
  ...shared,
  name: 'add-own-exit',
  summary: 'Puts a head behind the middle layer whose matrix is a copy of the last one.',
  async rewrite(model) {
    const { architecture, config } = model;
    const [{ matrix }] = architecture.around(config).norm.readers;
    return addExit(model, middle(model), { ...model.matrices.get(matrix)! });
  },
};

export const exit: CountedFamily = {
  name: 'exit',
  title: 'Early exits',
  baseline: addSharedExit,
  methods: [addSharedExit, addOwnExit],
  adds: {
    'add-exit': ({ hidden }) => hidden,
    'add-own-exit': ({ hidden, vocabulary }) => hidden + vocabulary * hidden,
  },
};
