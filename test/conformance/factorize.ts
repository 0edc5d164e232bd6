/** Low rank and sharing in their plainest forms. */

import { z } from 'zod';
import { checkFiniteMatrix } from '../../src/base/finite.ts';
import { denseValues } from '../../src/encodings/dense.ts';
import { lowRank } from '../../src/encodings/low-rank.ts';
import type { LinearMethod, ModelRewrite } from '../../src/contract/method.ts';
import type { CountedFamily } from './counts.ts';
import { attentionOf, feedForwardOf, weightsIn } from './counts.ts';

const options = z.strictObject({
  rank: z.int().min(1).max(16).default(8).describe('Of both factors.'),
});

/** SVD (Eckart and Young 1936), found by subspace iteration in float64: W ~ U (U^T W) for an orthonormal U. */
export const svd: LinearMethod<z.infer<typeof options>> = {
  shape: 'linear',
  name: 'svd',
  summary: 'SVD: the nearest matrix of a lower rank, as two factors.',
  options,
  statistic: () => 'none',
  async compress({ rows, columns, values }, _, { rank: wanted }) {
    checkFiniteMatrix('weights', values, columns);
    const rank = Math.min(wanted, rows, columns);
    let basis: Float64Array[] = Array.from({ length: rank }, (_, i) =>
      Float64Array.from({ length: rows }, (_, row) => Math.cos(1 + i * rows + row)),
    );
    for (let step = 0; step < 8; step++)
      basis = orthonormal(basis.map((u) => by(values, columns, across(values, columns, u))));
    const up = new Float32Array(rows * rank);
    for (const [k, u] of basis.entries()) u.forEach((value, row) => void (up[row * rank + k] = value));
    const down = Float32Array.from(basis.flatMap((u) => [...across(values, columns, u)]));
    return lowRank(denseValues(down, rank, columns), denseValues(up, rows, rank));
  },
};

/** W^T u. */
function across(values: Float32Array, columns: number, u: Float64Array): Float64Array {
  const result = new Float64Array(columns);
  values.forEach((value, at) => void (result[at % columns] += value * u[Math.floor(at / columns)]));
  return result;
}

/** W v. */
function by(values: Float32Array, columns: number, v: Float64Array): Float64Array {
  const result = new Float64Array(values.length / columns);
  values.forEach((value, at) => void (result[Math.floor(at / columns)] += value * v[at % columns]));
  return result;
}

/** By Gram and Schmidt, twice. */
function orthonormal(vectors: readonly Float64Array[]): Float64Array[] {
  const done: Float64Array[] = [];
  for (const vector of vectors) {
    for (let pass = 0; pass < 2; pass++)
      for (const other of done) {
        const dot = vector.reduce((sum, value, i) => sum + value * other[i], 0);
        for (let i = 0; i < vector.length; i++) vector[i] -= dot * other[i];
      }
    const norm = Math.hypot(...vector);
    done.push(vector.map((value) => (norm > 0 ? value / norm : 0)));
  }
  return done;
}

/** The last two layers have one feed-forward. */
export const shareLayers: ModelRewrite = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'structure',
  keepsEncodings: true,
  name: 'share-layers',
  summary: 'The last layer takes the matrices of the feed-forward before it.',
  options: z.strictObject({}),
  needsText: () => false,
  async rewrite(model) {
    const { architecture, config } = model;
    const last = config.layers.length - 1;
    const [from, to] = [last - 1, last].map((layer) => architecture.structure(config, layer));
    const names = (structure: typeof from) =>
      [...structure!.norms[1]!.readers, structure!.writers[1]!].map(({ matrix }) => matrix);
    const matrices = new Map(model.matrices);
    for (const [index, name] of names(to).entries()) matrices.set(name, matrices.get(names(from)[index]!)!);
    return { ...model, matrices };
  },
};

export const factorize: CountedFamily = {
  name: 'factorize',
  title: 'Low rank and sharing',
  baseline: svd,
  methods: [svd, shareLayers],
  adds: {
    svd: ({ hidden, layers }) => {
      const shapes = layers.flatMap((plan) => [...attentionOf(hidden, plan), ...feedForwardOf(hidden, plan)]);
      return shapes.reduce((sum, [rows, columns]) => sum + 8 * (rows + columns) - rows * columns, 0);
    },
    'share-layers': ({ hidden, layers }) => -weightsIn(feedForwardOf(hidden, layers.at(-1)!)),
  },
};
