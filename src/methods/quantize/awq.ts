/**
 * AWQ (Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan, Han, 2023, arXiv:2306.00978): channels with large inputs are
 * scaled up before their weights are rounded, and their inputs down, so that what matters most is rounded finest:
 *   s = mean|x|^a, or mean|x|^a / mean|w|^(1 - a) (duo scaling, as in AutoAWQ),
 * with the exponent that leaves the least error in the outputs; then every group's range is clipped to where its error is
 * least (section 3.2, equation 5; the authors' auto_scale and auto_clip). Errors are those of all calibration tokens, by
 * their Gram matrix, and of the rounding that comes after.
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import type { Block, BlockRewrite, Named } from '../../contract/method.ts';
import type { Matrix } from '../../contract/statistic.ts';
import { diagonalBlocks, groupEnergies, rowEnergies } from '../../compensate/output-error.ts';
import type { Folded, Scaling } from '../../transform/scaling.ts';
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
  steps: z
    .int()
    .min(1)
    .max(100)
    .default(20)
    .describe('Exponents to choose from, evenly spaced from 0 to below 1.'),
  duo: z
    .union([z.boolean(), z.literal('both')])
    .default(true)
    .describe('Whether scales also make up for the size of the weights; both tries it either way.'),
  clip: z
    .boolean()
    .default(true)
    .describe(
      'Clips outlying weights where that lowers the error; turn it off before methods that compensate errors.',
    ),
});
export type AwqOptions = z.infer<typeof options>;

/** Smaller scales than this would only add to the range of those that are stored. */
const smallest = 1e-4;
/** The authors' clipping: ranges shrink by twentieths, nearly to a half. */
const clipping = { steps: 20, tried: 10 } as const;

export const awq: BlockRewrite<AwqOptions> & Named<'awq', typeof options> = {
  shape: 'rewrite',
  scope: 'block',
  name: 'awq',
  summary:
    'AWQ (arXiv:2306.00978): scales channels by their inputs, and clips ranges, before weights are rounded.',
  options,
  followedBy: { method: 'rtn', range: 'minmax' },
  statistic: () => 'full',
  async rewrite(block, choice) {
    const chosen = new Map<Scaling, Float32Array | undefined>();
    for (const scaling of scalingsOf(block.model, block.layer)) {
      block.signal?.throwIfAborted();
      chosen.set(scaling, await searchScales(block, scaling, choice));
    }
    const folded = fold(block.model, chosen);
    if (choice.clip) await clip(block, chosen, folded);
    return changes(folded);
  },
};

/** What trials are made on: some rows of a matrix, and how long its groups are. */
interface Reader {
  readonly name: string;
  readonly sample: Matrix;
  readonly group: number;
}

/** The best scales [channels]; undefined where nothing that reads the channels is rounded, or no scaling is better. */
async function searchScales(
  block: Block,
  scaling: Scaling,
  { steps, duo }: AwqOptions,
): Promise<Float32Array | undefined> {
  const readers: Reader[] = [];
  for (const name of scaling.readers) {
    const sample = sampled(matrixOf(block.model, name));
    const group = await groupLength(block, name, sample.columns);
    if (group !== undefined) readers.push({ name, sample, group });
  }
  if (readers.length === 0) return undefined;
  const { tokens, sizes, gram } = inputsOf(block, scaling.readers[0]);
  const x = gathered(scaling, sizes, 'mean').map((sum) => sum / tokens);
  const w = gathered(scaling, relativeSizes(readers), 'mean');
  const errorWith = (scales: Float32Array) => errorOf(block, readers, gram, spread(scaling, scales));
  let best: Float32Array | undefined;
  let least = await errorOf(block, readers, gram);
  for (const weights of duo === 'both' ? [false, true] : [duo]) {
    const trial = (step: number) => scalesOf(x, weights ? w : undefined, step / steps);
    const found = await leastOf(steps, (step) => errorWith(trial(step)));
    if (found.error < least) [least, best] = [found.error, trial(found.step)];
  }
  return best;
}

/** Tries every second step, then those beside the best: errors fall towards it from both sides, but for what is chance. */
async function leastOf(
  steps: number,
  errorAt: (step: number) => Promise<number>,
): Promise<{ step: number; error: number }> {
  let best = { step: 0, error: Number.POSITIVE_INFINITY };
  const attempt = async (step: number) => {
    const error = await errorAt(step);
    if (error < best.error) best = { step, error };
  };
  for (let step = 0; step < steps; step += 2) await attempt(step);
  const middle = best.step;
  for (const step of [middle - 1, middle + 1]) if (step > 0 && step < steps) await attempt(step);
  return best;
}

function inputsOf(block: Block, name: string): { tokens: number; sizes: Float32Array; gram: Float32Array } {
  const { tokens, sizes, gram } = block.statistics.get(name) ?? { tokens: 0 };
  if (sizes && gram) return { tokens, sizes, gram };
  throw new LapidaryError({ what: 'awq needs sizes and Gram matrix of the layer inputs', where: name });
}

/** Normalised so that the largest is as far above 1 as the smallest below. */
function scalesOf(x: Float64Array, w: Float64Array | undefined, exponent: number): Float32Array {
  const scales = Float32Array.from(x, (size, channel) => {
    const scale = size ** exponent / (w ? w[channel] ** (1 - exponent) + smallest : 1);
    return Math.max(scale, smallest);
  });
  const middle = Math.sqrt(scales.reduce((a, b) => Math.max(a, b)) * scales.reduce((a, b) => Math.min(a, b)));
  return scales.map((scale) => scale / middle);
}

/** Mean over all rows of |w|, as a share of the largest in its group, per column. */
function relativeSizes(readers: readonly Reader[]): Float64Array {
  const [{ sample }] = readers;
  const sums = new Float64Array(sample.columns);
  let count = 0;
  for (const {
    sample: { rows, columns, values },
    group,
  } of readers) {
    count += rows;
    for (let row = 0; row < rows; row++) {
      for (let start = 0; start < columns; start += group) {
        const end = Math.min(start + group, columns);
        const largest = largestSize(values, row * columns + start, row * columns + end);
        if (largest === 0) continue;
        for (let column = start; column < end; column++)
          sums[column] += Math.abs(values[row * columns + column]) / largest;
      }
    }
  }
  return sums.map((sum) => sum / count);
}

/** Of the outputs of all readers together, after rounding weights that are scaled. */
async function errorOf(
  block: Block,
  readers: readonly Reader[],
  gram: Float32Array,
  scales?: Float32Array,
): Promise<number> {
  let total = 0;
  for (const { name, sample } of readers) {
    const { rows, columns, values } = sample;
    const scaled = { rows, columns, values: values.slice() };
    if (scales) scaleColumns(scaled, scales);
    const rounded = (await block.rounded(name, scaled))!;
    for (let row = 0, index = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, index++)
        rounded[index] = rounded[index] / (scales ? scales[column] : 1) - values[index];
    }
    const energies = await rowEnergies({ ...sample, values: rounded }, gram);
    // The sample stands for all rows.
    const weight = block.model.matrices.get(name)!.shape[0] / rows;
    total += weight * energies.reduce((sum, energy) => sum + energy, 0);
  }
  return total;
}

/**
 * How many weights share a range: those that a weight far above them takes the precision of. Undefined where the matrix is
 * not rounded.
 */
async function groupLength(block: Block, name: string, columns: number): Promise<number | undefined> {
  const small = 2 ** -10;
  const values = new Float32Array(columns).fill(small);
  values[0] = 1;
  const rounded = await block.rounded(name, { rows: 1, columns, values: values.slice() });
  const end = rounded?.findIndex((value, column) => column > 0 && Math.abs(value - small) < small / 2);
  return end === -1 ? columns : end;
}

function largestSize(values: Float32Array, start: number, end: number): number {
  let largest = 0;
  for (let index = start; index < end; index++) largest = Math.max(largest, Math.abs(values[index]));
  return largest;
}

/**
 * Clips the weights of a block, in place. What queries and keys are made of is left alone, as by the authors: outputs
 * that are multiplied with each other are not served by less error in each.
 */
async function clip(
  block: Block,
  chosen: ReadonlyMap<Scaling, Float32Array | undefined>,
  folded: Folded,
): Promise<void> {
  const all = [...chosen.keys()];
  const { architecture, config } = block.model;
  const { attention, feedForward, compared } = architecture.structure(config, block.layer);
  for (const name of [...attention, ...feedForward]) {
    if (compared.includes(name)) continue;
    block.signal?.throwIfAborted();
    const scaling = all.find(({ readers }) => readers.includes(name));
    const scales = scaling && chosen.get(scaling);
    const weight = folded.matrices.get(name) ?? matrixOf(block.model, name);
    const { gram } = inputsOf(block, name);
    const clipped = await clipMatrix(
      block,
      name,
      weight,
      scales ? unscaled(gram, spread(scaling, scales)) : gram,
    );
    if (clipped) folded.matrices.set(name, clipped);
  }
}

/** Of inputs divided by the scales. */
function unscaled(gram: Float32Array, scales: Float32Array): Float32Array {
  const n = scales.length;
  return gram.map((value, index) => value / (scales[Math.floor(index / n)] * scales[index % n]));
}

/** Every group of every row clipped to the share of its largest weight that leaves the least error; undefined: none. */
async function clipMatrix(
  block: Block,
  name: string,
  weight: Matrix,
  gram: Float32Array,
): Promise<Matrix | undefined> {
  const { rows, columns, values } = weight;
  const length = await groupLength(block, name, columns);
  // A weight that shares its range with no other has nothing to give way to.
  if (length === undefined || length < 2) return undefined;
  const blocks = diagonalBlocks(gram, columns, length);
  const bounds = groupSizes(weight, length);
  const shares = new Float32Array(bounds.length).fill(1);
  let least: Float32Array | undefined;
  for (let step = 0; step < clipping.tried; step++) {
    const share = 1 - step / clipping.steps;
    const trial = { rows, columns, values: values.slice() };
    clamp(trial, length, bounds, share);
    const rounded = (await block.rounded(name, trial))!;
    for (let index = 0; index < rounded.length; index++) rounded[index] -= values[index];
    const errors = await groupEnergies({ rows, columns, values: rounded }, length, blocks);
    if (least === undefined) least = errors;
    else {
      for (let index = 0; index < errors.length; index++) {
        if (errors[index] < least[index]) [least[index], shares[index]] = [errors[index], share];
      }
    }
  }
  clamp(weight, length, bounds, shares);
  return weight;
}

/** Largest |w| of each group [groups, rows]. */
function groupSizes({ rows, columns, values }: Matrix, length: number): Float32Array {
  const groups = Math.ceil(columns / length);
  return Float32Array.from({ length: groups * rows }, (_, index) => {
    const start = Math.floor(index / rows) * length;
    const at = (index % rows) * columns;
    return largestSize(values, at + start, at + Math.min(start + length, columns));
  });
}

/** In place. @param bounds and the shares of them that are kept, [groups, rows] */
function clamp(
  { rows, columns, values }: Matrix,
  length: number,
  bounds: Float32Array,
  shares: Float32Array | number,
): void {
  const groups = Math.ceil(columns / length);
  for (let group = 0; group < groups; group++) {
    const [start, end] = [group * length, Math.min((group + 1) * length, columns)];
    for (let row = 0; row < rows; row++) {
      const share = typeof shares === 'number' ? shares : shares[group * rows + row];
      const bound = share * bounds[group * rows + row];
      for (let at = row * columns + start; at < row * columns + end; at++) {
        if (values[at] > bound) values[at] = bound;
        else if (values[at] < -bound) values[at] = -bound;
      }
    }
  }
}
