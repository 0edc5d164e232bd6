/** Methods that ask for gradients by each weight, and for text that the model writes itself. */

import { z } from 'zod';
import { denseValues } from '../../src/encodings/dense.ts';
import type { Encoding } from '../../src/encodings/encoding.ts';
import type { ModelRewrite } from '../../src/contract/method.ts';
import { linearLayers } from '../../src/models/size.ts';
import type { CountedFamily } from './counts.ts';
import { magnitude } from './prune.ts';

const options = z.strictObject({
  sparsity: z.number().min(0).max(0.9).default(0.25).describe('Share of the weights that become 0.'),
});

/** Taylor pruning (Molchanov et al. 2019, arXiv:1906.10771): the weights with the least |w g| become 0, whole model at once. */
export const taylor: ModelRewrite<z.infer<typeof options>> = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'weights',
  name: 'taylor',
  summary: 'Taylor (arXiv:1906.10771): weights become 0 by what the loss would change to first order.',
  options,
  needsText: () => true,
  async rewrite(model, { sparsity }, { gradients }) {
    const names = linearLayers(model).flatMap(({ name, layer }) => (layer === undefined ? [] : [name]));
    const { slopes } = await gradients({ slopes: new Set(names) });
    const scored = names.map((name) => {
      const [values, slope] = [model.matrices.get(name)!.dense(), slopes.get(name)!];
      return { name, values, scores: values.map((value, at) => Math.abs(value * slope[at]!)) };
    });
    const all = Float32Array.from(scored.flatMap(({ scores }) => [...scores])).sort();
    const least = all[Math.floor(sparsity * all.length)]!;
    const matrices = new Map<string, Encoding>(model.matrices);
    for (const { name, values, scores } of scored) {
      const kept = values.map((value, at) => (scores[at]! < least ? 0 : value));
      matrices.set(name, denseValues(kept, ...model.matrices.get(name)!.shape));
    }
    return { ...model, matrices };
  },
};

/** Rows of the tables are halved that stand for tokens which the model does not write. */
export const unwritten: ModelRewrite = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'weights',
  name: 'unwritten',
  summary: 'Halves the embedding of tokens that do not occur in text of the model itself.',
  options: z.strictObject({}),
  needsText: () => false,
  async rewrite(model, _, { samples }) {
    const written = new Set((await samples({ count: 4, length: 32 })).flatMap((ids) => [...ids]));
    const matrices = new Map<string, Encoding>(model.matrices);
    for (const name of model.architecture.around(model.config).tables) {
      const { shape, dense } = model.matrices.get(name)!;
      const halved = dense().map((value, at) => (written.has(Math.floor(at / shape[1])) ? value : value / 2));
      matrices.set(name, denseValues(halved, ...shape));
    }
    return { ...model, matrices };
  },
};

export const asking: CountedFamily = {
  name: 'asking',
  title: 'By gradients and text of the model itself',
  baseline: magnitude,
  methods: [taylor, unwritten],
  adds: {},
};
