/**
 * SmoothQuant (Xiao, Lin, Seznec, Wu, Demouth, Han, 2022, arXiv:2211.10438, equation 4): outliers among the inputs are
 * moved into the weights, so that both can be rounded to eight bits:
 *   s = max|x|^a / max|w|^(1 - a).
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import type { Block, BlockRewrite, Named } from '../../contract/method.ts';
import type { Matrix, Statistic } from '../../contract/statistic.ts';
import type { Scaling } from '../../transform/scaling.ts';
import {
  changes,
  fold,
  gathered,
  matrixOf,
  sampled,
  scaleColumns,
  scalingsOf,
  spread,
} from '../../transform/scaling.ts';

const options = z.strictObject({
  alpha: z
    .union([z.number().min(0).max(1), z.literal('search')])
    .default(0.5)
    .describe(
      'Share of the difficulty that moves from inputs to weights; search: of each layer, by its error.',
    ),
  inputBits: z.int().min(2).max(8).default(8).describe('Of the inputs, which the search rounds to.'),
});
export type SmoothQuantOptions = z.infer<typeof options>;

/** The authors' smallest scale. */
const smallest = 1e-5;
/** Of the search, from no share to all. */
const steps = 20;

export const smoothquant: BlockRewrite<SmoothQuantOptions> & Named<'smoothquant', typeof options> = {
  shape: 'rewrite',
  scope: 'block',
  name: 'smoothquant',
  summary:
    'SmoothQuant (arXiv:2211.10438): moves outliers from inputs into weights, before both are rounded.',
  options,
  followedBy: { method: 'w8a8' },
  statistic: () => 'norm',
  async rewrite(block, choice) {
    const chosen = new Map<Scaling, Float32Array | undefined>();
    for (const scaling of scalingsOf(block.model, block.layer)) {
      block.signal?.throwIfAborted();
      chosen.set(scaling, await smooth(block, scaling, choice));
    }
    return changes(fold(block.model, chosen));
  },
};

async function smooth(
  block: Block,
  scaling: Scaling,
  { alpha, inputBits }: SmoothQuantOptions,
): Promise<Float32Array | undefined> {
  const inputs = inputsOf(block, scaling.readers[0]);
  const matrices = scaling.readers.map((name) => matrixOf(block.model, name));
  const x = gathered(scaling, inputs.peaks, 'largest');
  const w = gathered(scaling, columnPeaks(matrices), 'largest');
  if (alpha !== 'search') return scalesOf(x, w, alpha);
  const readers = scaling.readers.map((name, index) => ({ name, sample: sampled(matrices[index]) }));
  const levels = 2 ** (inputBits - 1) - 1;
  let best: Float32Array | undefined;
  let least = await errorOf(block, readers, inputs, levels);
  for (let step = 0; step <= steps; step++) {
    const scales = scalesOf(x, w, step / steps);
    const error = await errorOf(block, readers, inputs, levels, spread(scaling, scales));
    if (error < least) [least, best] = [error, scales];
  }
  return best;
}

interface Inputs extends Pick<Statistic, 'tokens'> {
  readonly squares: Float32Array;
  readonly peaks: Float32Array;
}

function inputsOf(block: Block, name: string): Inputs {
  const { tokens, squares, peaks } = block.statistics.get(name) ?? { tokens: 0 };
  if (squares && peaks) return { tokens, squares, peaks };
  throw new LapidaryError({ what: 'smoothquant needs norms and peaks of the layer inputs', where: name });
}

function scalesOf(x: Float64Array, w: Float64Array, alpha: number): Float32Array {
  return Float32Array.from(x, (peak, channel) => {
    const scale = peak ** alpha / Math.max(w[channel], smallest) ** (1 - alpha);
    return Math.max(scale, smallest);
  });
}

/** Largest |w| of each column, over all matrices. */
function columnPeaks(matrices: readonly Matrix[]): Float32Array {
  const peaks = new Float32Array(matrices[0].columns);
  for (const { columns, values } of matrices) {
    values.forEach((value, index) => {
      const column = index % columns;
      peaks[column] = Math.max(peaks[column], Math.abs(value));
    });
  }
  return peaks;
}

/**
 * Expected squared error of the outputs, over all tokens: of rounded weights, whose columns the inputs' squares weigh, and of
 * inputs rounded in steps of the largest one's, each error uniform within its step.
 */
async function errorOf(
  block: Block,
  readers: readonly { readonly name: string; readonly sample: Matrix }[],
  { tokens, squares, peaks }: Inputs,
  levels: number,
  scales?: Float32Array,
): Promise<number> {
  const scale = (column: number) => scales?.[column] ?? 1;
  const step = peaks.reduce((most, peak, column) => Math.max(most, peak / scale(column)), 0) / levels;
  let total = 0;
  for (const { name, sample } of readers) {
    const { rows, columns, values } = sample;
    const scaled = { rows, columns, values: values.slice() };
    if (scales) scaleColumns(scaled, scales);
    const energy = scaled.values.reduce((sum, value) => sum + value * value, 0);
    let error = (tokens * energy * step * step) / 12;
    const rounded = await block.rounded(name, scaled);
    rounded?.forEach((value, index) => {
      const column = index % columns;
      error += squares[column] * (value / scale(column) - values[index]) ** 2;
    });
    total += (error * block.model.matrices.get(name)!.shape[0]) / rows;
  }
  return total;
}
