/**
 * AutoRound (SignRound: Cheng et al. 2023, arXiv:2309.05516): whether each weight is rounded up or down, and the range
 * of each group, are trained by signed gradient descent so that the block computes what it did.
 */

import { z } from 'zod';
import type { Encoding } from '../../encodings/encoding.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import type { Value } from '../../graph/graph.ts';
import { Graph } from '../../graph/graph.ts';
import { mul, reduceMean, sub } from '../../graph/ops.ts';
import type { Feeds, Tensor } from '../../graph/session.ts';
import { feedsOf, openSession, tensor } from '../../graph/session.ts';
import { random } from '../../base/random.ts';
import { plainScope } from '../../models/build.ts';
import { openSignDescent, signStep } from '../../train/sign.ts';
import type { TrainedBlock, TrainMethod } from '../contract.ts';
import type { RoundedMatrix } from './autoround-grid.ts';
import { roundedMatrix } from './autoround-grid.ts';
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
  plain: async (weight, choice) => groupedPacked(await roundToNearest(weight, choice)),
  train,
};

async function train(block: TrainedBlock, choice: AutoRoundOptions): Promise<Map<string, Encoding>> {
  const matrices = await roundedMatrices(block, choice);
  const sequences = sequencesOf(block);
  const size = Math.min(choice.batch, sequences.length);
  const start: Feeds = Object.assign({}, ...[...matrices.values()].map(({ parameters }) => parameters));
  const descent = await openSignDescent(stepGraph(block, matrices, size, choice), start, block.session);
  try {
    const { integer } = random(block.seed);
    const rate = choice.rate || 1 / choice.steps;
    for (let step = 0; step < choice.steps; step++) {
      block.signal?.throwIfAborted();
      const batch = batchOf(sequences, drawn(sequences.length, size, integer));
      await descent.step(batch, rate * (1 - step / choice.steps));
      block.step(step + 1, choice.steps);
    }
    const trained = descent.parameters();
    const [before, after] = await losses(block, matrices, size, [start, trained]);
    return await encodings(block, matrices, after < before ? trained : start);
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

const weightsOn = ({ session }: TrainedBlock) => (session.device === 'webgpu' ? 'initializers' : 'inputs');

/** Of the block with rounded matrices, for so many sequences: the mean squared error of what it gives, weighted. */
function blockLoss(block: TrainedBlock, matrices: ReadonlyMap<string, RoundedMatrix>, size: number): Value {
  const { model, layer, inputs } = block;
  const { architecture, config, vectors } = model;
  const [, time, hidden] = inputs[0].dims;
  const graph = new Graph(weightsOn(block));
  const find = (name: string) => matrices.get(name)?.encoding ?? model.matrices.get(name);
  const scope = plainScope(graph, config, { matrices: { get: find }, vectors }, { time });
  const given = architecture.block(scope, graph.input('x', 'float32', [size, time, hidden]), layer);
  const error = sub(given, graph.input('target', 'float32', [size, time, hidden]));
  const weights = graph.input('weights', 'float32', [size, time, 1]);
  return reduceMean(mul(mul(error, error), weights), [0, 1, 2]);
}

function stepGraph(
  block: TrainedBlock,
  matrices: ReadonlyMap<string, RoundedMatrix>,
  size: number,
  { rangeRate }: AutoRoundOptions,
): Graph {
  const loss = blockLoss(block, matrices, size);
  const offsets = new Set([...matrices.values()].map(({ offset }) => offset));
  const parameters = new Set([...matrices.values()].flatMap((each) => Object.keys(each.parameters)));
  const moving = loss.graph.inputs.filter(({ name }) => parameters.has(name));
  signStep(
    loss,
    moving.map((value) => ({ value, share: offsets.has(value.name) ? 1 : rangeRate })),
  );
  return loss.graph;
}

/** Batches that decide whether training was of use: it may not be where text is little. */
const judges = 4;

/** Mean loss over the same few batches, for each set of parameters. */
async function losses(
  block: TrainedBlock,
  matrices: ReadonlyMap<string, RoundedMatrix>,
  size: number,
  candidates: readonly Feeds[],
): Promise<readonly number[]> {
  const loss = blockLoss(block, matrices, size);
  loss.graph.output('loss', loss);
  const session = await openSession(loss.graph, block.session);
  const fixed = fixedFeeds(loss.graph);
  const sequences = sequencesOf(block);
  const batches = Math.min(judges, Math.floor(sequences.length / size));
  try {
    const sums = candidates.map(() => 0);
    for (let start = 0; start < batches * size; start += size) {
      const batch = batchOf(
        sequences,
        Array.from({ length: size }, (_, i) => start + i),
      );
      for (const [i, parameters] of candidates.entries()) {
        sums[i] += Number((await session.run({ ...fixed, ...batch, ...parameters })).loss.data[0]);
      }
    }
    return sums;
  } finally {
    await session.release();
  }
}

const fixedFeeds = (graph: Graph): Feeds => (graph.weightsAs === 'inputs' ? feedsOf(graph.weights) : {});

/** One sequence's input and target, [time, hidden] each, and what its tokens weigh, [time]. */
interface Sequence {
  readonly shape: readonly [time: number, hidden: number];
  readonly x: Float32Array;
  readonly target: Float32Array;
  readonly weights: Float32Array;
}

function sequencesOf({ inputs, targets, importance }: TrainedBlock): readonly Sequence[] {
  let first = 0;
  return inputs.flatMap((input, i) => {
    const [rows, time, hidden] = input.dims;
    const start = first;
    first += rows * time;
    const row = ({ data }: Tensor, at: number) =>
      (data as Float32Array).subarray(at * time * hidden, (at + 1) * time * hidden);
    return Array.from({ length: rows }, (_, at): Sequence => {
      const from = start + at * time;
      const weights = importance?.subarray(from, from + time) ?? new Float32Array(time).fill(1);
      return { shape: [time, hidden], x: row(input, at), target: row(targets[i], at), weights };
    });
  });
}

/** So many different numbers below `count`. */
function drawn(count: number, size: number, integer: (below: number) => number): readonly number[] {
  const all = Array.from({ length: count }, (_, i) => i);
  for (let i = 0; i < size; i++) {
    const other = i + integer(count - i);
    [all[i], all[other]] = [all[other], all[i]];
  }
  return all.slice(0, size);
}

function batchOf(sequences: readonly Sequence[], indices: readonly number[]): Feeds {
  const [time, hidden] = sequences[0].shape;
  const joined = (width: number, part: (sequence: Sequence) => Float32Array) => {
    const data = new Float32Array(indices.length * time * width);
    for (const [i, index] of indices.entries()) data.set(part(sequences[index]), i * time * width);
    return tensor('float32', [indices.length, time, width], data);
  };
  return {
    x: joined(hidden, ({ x }) => x),
    target: joined(hidden, ({ target }) => target),
    weights: joined(1, ({ weights }) => weights),
  };
}

/** Codes are taken from the nodes that training ran, so that they are those that were trained. */
async function encodings(
  block: TrainedBlock,
  matrices: ReadonlyMap<string, RoundedMatrix>,
  parameters: Feeds,
): Promise<Map<string, Encoding>> {
  const graph = new Graph(weightsOn(block));
  for (const { addCodes } of matrices.values()) addCodes(graph);
  const session = await openSession(graph, block.session);
  try {
    const outputs = await session.run({ ...fixedFeeds(graph), ...parameters });
    return new Map([...matrices].map(([name, { collect }]) => [name, collect(outputs)]));
  } finally {
    await session.release();
  }
}
