/** Removal of the last layers: a rewrite that changes the structure and hands on encodings as they are. */

import { z } from 'zod';
import type { ModelRewrite } from '../../src/contract/method.ts';
import { keepLayers } from '../../src/models/layers.ts';

const options = z.strictObject({
  remove: z.int().min(1).default(1).describe('How many layers go.'),
});

export const removeLayers: ModelRewrite<z.infer<typeof options>> = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'structure',
  keepsEncodings: true,
  name: 'remove-layers',
  summary: 'Leaves out the layers before the last one.',
  options,
  needsText: () => false,
  async rewrite(model, { remove }) {
    const { length } = model.config.layers;
    const gone = Math.min(remove, length - 1);
    const kept = [...model.config.layers.keys()].filter(
      (layer) => layer < length - 1 - gone || layer === length - 1,
    );
    return keepLayers(model, kept);
  },
};
