/** Pruning in its plainest forms: single weights, heads and channels of single layers. */

import { z } from 'zod';
import { denseValues } from '../../src/encodings/dense.ts';
import type { Encoding } from '../../src/encodings/encoding.ts';
import { checkFiniteMatrix } from '../../src/base/finite.ts';
import type { LinearMethod, ModelRewrite } from '../../src/contract/method.ts';
import { withPlans } from '../../src/models/layers.ts';
import type { LayerPlan, Model } from '../../src/models/model.ts';
import type { CountedFamily } from './counts.ts';
import { attentionOf, feedForwardOf, weightsIn } from './counts.ts';
import { removeLayers } from './remove-layers.ts';

const sparsity = z.strictObject({
  sparsity: z.number().min(0).max(0.9).default(0.5).describe('Share of the weights that become 0.'),
});

/** Magnitude pruning (Han et al. 2015, arXiv:1506.02626): the smallest weights of a matrix become zero. */
export const magnitude: LinearMethod<z.infer<typeof sparsity>> = {
  shape: 'linear',
  name: 'magnitude',
  summary: 'Magnitude (arXiv:1506.02626): the smallest weights become 0.',
  options: sparsity,
  statistic: () => 'none',
  async compress({ rows, columns, values }, _, { sparsity }) {
    checkFiniteMatrix('weights', values, columns);
    return zeroed(values, rows, columns, (at) => Math.abs(values[at]), sparsity);
  },
};

/** Wanda (Sun et al. 2023, arXiv:2306.11695): weights count by the norm of their inputs, row by row. */
export const wanda: LinearMethod<z.infer<typeof sparsity>> = {
  shape: 'linear',
  name: 'wanda',
  summary: 'Wanda (arXiv:2306.11695): the weights that add least to outputs become 0.',
  options: sparsity,
  statistic: () => 'squares',
  async compress({ rows, columns, values }, { squares }, { sparsity }) {
    checkFiniteMatrix('weights', values, columns);
    const result = new Float32Array(values.length);
    for (let row = 0; row < rows; row++) {
      const own = values.subarray(row * columns, (row + 1) * columns);
      const score = (at: number) => own[at] ** 2 * squares![at];
      result.set(zeroed(own, 1, columns, score, sparsity).dense(), row * columns);
    }
    return denseValues(result, rows, columns);
  },
};

function zeroed(
  values: Float32Array,
  rows: number,
  columns: number,
  score: (at: number) => number,
  share: number,
): Encoding {
  const order = [...values.keys()].sort((a, b) => score(a) - score(b) || a - b);
  const result = values.slice();
  for (const at of order.slice(0, Math.floor(share * values.length))) result[at] = 0;
  return denseValues(result, rows, columns);
}

const none = z.strictObject({});

interface Kept {
  readonly rows?: readonly number[];
  readonly columns?: readonly number[];
}

/** With other layers, some of their matrices cut to rows and columns. */
function cut(model: Model, plans: readonly LayerPlan[], kept: ReadonlyMap<string, Kept>): Model {
  const matrices = new Map<string, Encoding>(model.matrices);
  for (const [name, { rows, columns }] of kept) {
    const { shape, dense } = model.matrices.get(name)!;
    const values = dense();
    const [down, across] = [
      rows ?? [...new Array(shape[0]).keys()],
      columns ?? [...new Array(shape[1]).keys()],
    ];
    const part = Float32Array.from(
      down.flatMap((row) => across.map((column) => values[row * shape[1] + column])),
    );
    matrices.set(name, denseValues(part, down.length, across.length));
  }
  return { ...model, config: withPlans(model, plans), matrices };
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

/** The first layer loses its last head of keys and values with the queries that read it, the second half its channels. */
export const narrower: ModelRewrite = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'structure',
  name: 'narrower',
  summary: 'Removes a group of heads of one layer, and half of the channels of another.',
  options: none,
  needsText: () => false,
  async rewrite(model) {
    const { architecture, config } = model;
    const [first, second, ...others] = config.layers;
    const group = first.heads / first.keyValueHeads;
    const keyValueHeads = first.keyValueHeads - 1;
    const plans = [
      { ...first, keyValueHeads, heads: group * keyValueHeads },
      { ...second, intermediate: second.intermediate / 2 },
      ...others,
    ];
    const [attention] = architecture.structure(config, 0).norms;
    const [q, k, v] = attention!.readers.map(({ matrix }) => matrix);
    const { norms, writers } = architecture.structure(config, 1);
    const queries = range(0, group * keyValueHeads * first.headSize);
    const keys = range(0, keyValueHeads * first.headSize);
    const channels = range(0, second.intermediate / 2);
    return cut(
      model,
      plans,
      new Map<string, Kept>([
        [q!, { rows: queries }],
        [k!, { rows: keys }],
        [v!, { rows: keys }],
        [architecture.structure(config, 0).writers[0]!.matrix, { columns: queries }],
        ...norms[1]!.readers.map(({ matrix }) => [matrix, { rows: channels }] as const),
        [writers[1]!.matrix, { columns: channels }],
      ]),
    );
  },
};

/** The second layer loses its attention, the third its feed-forward. */
export const withoutParts: ModelRewrite = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'structure',
  keepsEncodings: true,
  name: 'without-parts',
  summary: 'Removes the attention of one layer and the feed-forward of another.',
  options: none,
  needsText: () => false,
  async rewrite(model) {
    const { architecture, config } = model;
    const plans = config.layers.map((plan, layer) => {
      if (layer === 1) return { ...plan, heads: 0, keyValueHeads: 0 };
      return layer === 2 ? { ...plan, intermediate: 0 } : plan;
    });
    const [matrices, vectors] = [new Map(model.matrices), new Map(model.vectors)];
    for (const [layer, part] of [
      [1, 0],
      [2, 1],
    ] as const) {
      const { norms, writers } = architecture.structure(config, layer);
      vectors.delete(norms[part]!.weight);
      for (const { matrix } of [...norms[part]!.readers, writers[part]!]) matrices.delete(matrix);
    }
    return { ...model, config: withPlans(model, plans), matrices, vectors };
  },
};

export const prune: CountedFamily = {
  name: 'prune',
  title: 'Pruning',
  baseline: magnitude,
  methods: [magnitude, wanda, removeLayers, narrower, withoutParts],
  adds: {
    // With both of its norms.
    'remove-layers': ({ hidden, layers }) => {
      const gone = layers.at(-2)!;
      return -weightsIn([...attentionOf(hidden, gone), ...feedForwardOf(hidden, gone)]) - 2 * hidden;
    },
    narrower: ({ hidden, layers: [first, second] }) => {
      const group = { ...first!, heads: first!.heads / first!.keyValueHeads, keyValueHeads: 1 };
      const half = { intermediate: second!.intermediate / 2 };
      return -weightsIn([...attentionOf(hidden, group), ...feedForwardOf(hidden, half)]);
    },
    // Each with its norm.
    'without-parts': ({ hidden, layers: [, second, third] }) =>
      -weightsIn([...attentionOf(hidden, second!), ...feedForwardOf(hidden, third!)]) - 2 * hidden,
  },
};
