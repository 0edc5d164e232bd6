/**
 * AutoRound (SignRound: Cheng et al. 2023, arXiv:2309.05516): whether each weight is rounded up or down, and the range
 * of each group, are trained by signed gradient descent so that the block computes what it did.
 */

import { z } from 'zod';
import type { Encoding } from '../../encodings/encoding.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import { Graph } from '../../graph/graph.ts';
import type { Feeds } from '../../graph/session.ts';
import { feedsOf, openSession } from '../../graph/session.ts';
import { random } from '../../base/random.ts';
import { openSignDescent, signStep } from '../../train/sign.ts';
import type { TrainedBlock, TrainMethod } from '../contract.ts';
import type { RoundedMatrix } from './autoround-grid.ts';
import { roundedMatrix } from './autoround-grid.ts';
import { batchOf, drawn, sequencesOf } from './batches.ts';
import type { BlockInTraining } from './block-loss.ts';
import { blockLoss, leastLoss } from './block-loss.ts';
import { fisher, gridOptions } from './options.ts';
import { roundToNearest } from './rtn.ts';

const options = z.strictObject({
  ...gridOptions,
  steps: z.int().min(1).max(10000).default(200).describe('Training steps of each block.'),
  rate: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe('How far rounding moves in the first step, in steps of the grid; it falls to 0. 0: 1 / steps.'),
  batch: z.int().min(1).max(1024).default(8).describe('Calibration sequences of a training step.'),
  minmax: z.boolean().default(true).describe('Trains the range of each group, too.'),
  rangeRate: z
    .number()
    .min(0)
    .max(1)
    .default(0.2)
    .describe('How fast ranges move, in shares of them a step, as a share of the rate; the authors: 1.'),
  fisher,
});
export type AutoRoundOptions = z.infer<typeof options>;

export const autoround: TrainMethod<AutoRoundOptions> = {
  shape: 'train',
  scope: 'block',
  name: 'autoround',
  summary:
    'AutoRound (arXiv:2309.05516): trains roundings and ranges so that each block computes what it did.',
  options,
  fisher: (choice) => choice.fisher,
  batch: (choice) => choice.batch,
  plain: async (weight, choice) => groupedPacked(await roundToNearest(weight, choice)),
  train,
};

async function train(given: TrainedBlock, choice: AutoRoundOptions): Promise<Map<string, Encoding>> {
  const matrices = await roundedMatrices(given, choice);
  const sequences = sequencesOf(given);
  const size = Math.min(choice.batch, sequences.length);
  const { model, layer, session, seed, signal } = given;
  const block: BlockInTraining = {
    model,
    layer,
    matrices: new Map([...matrices].map(([name, { encoding }]) => [name, encoding])),
    sequences,
    size,
    session,
    weightsAs: session.device === 'webgpu' ? 'initializers' : 'inputs',
  };
  const start = startOf(matrices);
  const descent = await openSignDescent(stepGraph(block, matrices, choice), start, session);
  try {
    const { integer } = random(seed);
    const rate = choice.rate || 1 / choice.steps;
    for (let step = 0; step < choice.steps; step++) {
      signal?.throwIfAborted();
      const batch = batchOf(sequences, drawn(sequences.length, size, integer));
      await descent.step(batch, rate * (1 - step / choice.steps));
      given.step(step + 1, choice.steps);
    }
    return await encodings(block, matrices, await leastLoss(block, [start, descent.parameters()]));
  } finally {
    await descent.release();
  }
}

/** All on the grids of plain rounding. */
async function roundedMatrices(
  { model, names, signal }: TrainedBlock,
  choice: AutoRoundOptions,
): Promise<ReadonlyMap<string, RoundedMatrix>> {
  const found = new Map<string, RoundedMatrix>();
  for (const name of names) {
    signal?.throwIfAborted();
    const matrix = model.matrices.get(name)!;
    const [rows, columns] = matrix.shape;
    const weight = { rows, columns, values: matrix.dense() };
    const { scales, zeros } = await roundToNearest(weight, choice);
    found.set(name, roundedMatrix(name, { weight, scales, zeros, choice, minmax: choice.minmax }));
  }
  return found;
}

const startOf = (matrices: ReadonlyMap<string, RoundedMatrix>): Feeds =>
  Object.assign({}, ...[...matrices.values()].map(({ parameters }) => parameters)) as Feeds;

/** Codes are taken from the nodes that training ran, so that they are those that were trained. */
async function encodings(
  { weightsAs, session: options }: BlockInTraining,
  matrices: ReadonlyMap<string, RoundedMatrix>,
  parameters: Feeds,
): Promise<Map<string, Encoding>> {
  const graph = new Graph(weightsAs);
  for (const { addCodes } of matrices.values()) addCodes(graph);
  const session = await openSession(graph, options);
  try {
    const fixed = weightsAs === 'inputs' ? feedsOf(graph.weights) : {};
    const outputs = await session.run({ ...fixed, ...parameters });
    return new Map([...matrices].map(([name, { collect }]) => [name, collect(outputs)]));
  } finally {
    await session.release();
  }
}

function stepGraph(
  block: BlockInTraining,
  matrices: ReadonlyMap<string, RoundedMatrix>,
  { rangeRate }: AutoRoundOptions,
): Graph {
  const loss = blockLoss(block);
  const offsets = new Set([...matrices.values()].map(({ offset }) => offset));
  const parameters = new Set(Object.keys(startOf(matrices)));
  const moving = loss.graph.inputs.filter(({ name }) => parameters.has(name));
  signStep(
    loss,
    moving.map((value) => ({ value, share: offsets.has(value.name) ? 1 : rangeRate })),
  );
  return loss.graph;
}
