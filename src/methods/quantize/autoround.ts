/**
 * AutoRound (SignRound: Cheng et al. 2023, arXiv:2309.05516): whether each weight is rounded up or down, and the range
 * of each group, are trained by signed gradient descent so that the block computes what it did.
 */

import { z } from 'zod';
import type { Encoding } from '../../encodings/encoding.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import { withKernels } from '../../kernels/kernels.ts';
import type { Named, TrainedBlock, TrainMethod } from '../../contract/method.ts';
import type { RoundedMatrix, Start } from '../../train/learned-rounding.ts';
import { roomFor, roundedMatrix } from '../../train/learned-rounding.ts';
import { descend, sequencesAtOnce } from '../../train/block-descent.ts';
import { fisher, gridOptions } from '../../rounding/options.ts';
import { roundToNearest } from '../../rounding/nearest.ts';

const options = z.strictObject({
  ...gridOptions,
  // On whole models the least and the greatest weight are the better start (docs/lab/autoround.md).
  range: gridOptions.range.removeDefault().default('minmax').describe(gridOptions.range.description!),
  steps: z.int().min(1).max(10000).default(300).describe('Training steps of each block.'),
  rate: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe('How far rounding moves in the first step, in steps of the grid; it falls to 0. 0: 1 / steps.'),
  batch: z.int().min(1).max(1024).default(2).describe('Calibration sequences of a training step.'),
  minmax: z.boolean().default(true).describe('Trains the range of each group, too.'),
  rangeRate: z
    .number()
    .min(0)
    .max(1)
    .default(1)
    .describe('How fast ranges move, in shares of them a step, as a share of the rate; with few steps 0.2.'),
  fisher,
});
export type AutoRoundOptions = z.infer<typeof options>;

export const autoround: TrainMethod<AutoRoundOptions> & Named<'autoround', typeof options> = {
  shape: 'train',
  scope: 'block',
  name: 'autoround',
  summary:
    'AutoRound (arXiv:2309.05516): trains roundings and ranges so that each block computes what it did.',
  options,
  fisher: (choice) => choice.fisher,
  batch: (choice, length) => sequencesAtOnce(choice.batch, length),
  plain: async (weight, choice) => groupedPacked(await roundToNearest(weight, choice)),
  train,
};

async function train(block: TrainedBlock, choice: AutoRoundOptions): Promise<Map<string, Encoding>> {
  // Plain rounding borrows the kernels, too.
  const starts = await plainGrids(block, choice);
  const first = choice.rate || 1 / choice.steps;
  return withKernels(async (kernels) => {
    const flow = kernels.reserve(4 * Math.max(...[...starts.values()].map(({ weight }) => roomFor(weight))));
    const matrices = new Map(
      [...starts].map(([name, start]) => [name, roundedMatrix(kernels, flow, start)] as const),
    );
    // The kernels have the weights now.
    starts.clear();
    const plain = encodings(matrices);
    const gained = await descend(block, matrices, {
      steps: choice.steps,
      batch: choice.batch,
      move(matrix, gradient, step) {
        const rate = first * (1 - step / choice.steps);
        matrix.step(gradient, { offsets: rate, ranges: rate * choice.rangeRate });
      },
    });
    return gained ? encodings(matrices) : plain;
  }, block.session.threads);
}

const encodings = (matrices: ReadonlyMap<string, RoundedMatrix>): Map<string, Encoding> =>
  new Map([...matrices].map(([name, matrix]) => [name, matrix.finished()]));

/** Of all matrices, those of plain rounding. */
async function plainGrids(
  { model, names, signal }: TrainedBlock,
  choice: AutoRoundOptions,
): Promise<Map<string, Start>> {
  const found = new Map<string, Start>();
  for (const name of names) {
    signal?.throwIfAborted();
    const matrix = model.matrices.get(name)!;
    const [rows, columns] = matrix.shape;
    const weight = { rows, columns, values: matrix.dense() };
    const { scales, zeros } = await roundToNearest(weight, choice);
    found.set(name, { weight, scales, zeros, choice, minmax: choice.minmax });
  }
  return found;
}
