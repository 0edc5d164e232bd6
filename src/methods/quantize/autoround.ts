/**
 * AutoRound (SignRound: Cheng et al. 2023, arXiv:2309.05516): whether each weight is rounded up or down, and the range
 * of each group, are trained by signed gradient descent so that the block computes what it did.
 */

import { z } from 'zod';
import type { Encoding } from '../../encodings/encoding.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
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
import { startOf } from './autoround-start.ts';
import { gridOptions } from './options.ts';
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
    .default(1)
    .describe('How fast ranges move, as a share of the rate, in shares of the range.'),
  start: z
    .enum(['nearest', 'gptq'])
    .default('nearest')
    .describe('Codes that training starts from: plain rounding, or what GPTQ chooses.'),
});
export type AutoRoundOptions = z.infer<typeof options>;

export const autoround: TrainMethod<AutoRoundOptions> = {
  shape: 'train',
  name: 'autoround',
  summary: 'AutoRound (arXiv:2309.05516): trains roundings and ranges so that each block computes what it did.',
  options,
  plain: async (weight, choice) => groupedPacked(await roundToNearest(weight, choice)),
  train,
};

async function train(block: TrainedBlock, choice: AutoRoundOptions): Promise<Map<string, Encoding>> {
  const starts = await startOf(block, choice);
  const matrices = new Map(
    block.names.map((name) => [name, roundedMatrix(name, { ...starts.get(name)!, choice, minmax: choice.minmax })]),
  );
  const sequences = sequencesOf(block);
  const size = Math.min(choice.batch, sequences.length);
  const graph = lossGraph(block, matrices, { size, choice });
  const start = Object.assign({}, ...[...matrices.values()].map(({ parameters }) => parameters));
  const descent = await openSignDescent(graph, start, block.session);
  try {
    const { integer } = random(block.seed);
    let least = Number.POSITIVE_INFINITY;
    const rate = choice.rate || 1 / choice.steps;
    for (let step = 0; step < choice.steps; step++) {
      block.signal?.throwIfAborted();
      const batch = batchOf(sequences, drawn(sequences.length, size, integer));
      const loss = await descent.step(batch, rate * (1 - step / choice.steps));
      if (process.env['AR_LOG'] && (step % 10 === 0 || step === choice.steps - 1)) console.log(step, loss);
      least = Math.min(loss, least);
      block.step(step + 1, choice.steps);
    }
    return await encodings(block, matrices, descent.now);
  } finally {
    await descent.release();
  }
}

/** The block with rounded matrices, the mean squared error of what it gives, and the step that makes it smaller. */
function lossGraph(
  { model, layer, inputs, session }: TrainedBlock,
  matrices: ReadonlyMap<string, RoundedMatrix>,
  { size, choice }: { readonly size: number; readonly choice: AutoRoundOptions },
): Graph {
  const { architecture, config, vectors } = model;
  const [, time, hidden] = inputs[0].dims;
  const graph = new Graph(session.device === 'webgpu' ? 'initializers' : 'inputs');
  const find = (name: string) => matrices.get(name)?.encoding ?? model.matrices.get(name);
  const scope = plainScope(graph, config, { matrices: { get: find }, vectors }, { time });
  const x = graph.input('x', 'float32', [size, time, hidden]);
  const error = sub(architecture.block(scope, x, layer), graph.input('target', 'float32', [size, time, hidden]));
  const loss = reduceMean(mul(error, error), [0, 1, 2]);
  const offsets = new Set([...matrices.values()].map(({ offset }) => offset));
  const parameters = new Set([...matrices.values()].flatMap((each) => Object.keys(each.parameters)));
  const moving = graph.inputs.filter(({ name }) => parameters.has(name));
  signStep(
    loss,
    moving.map((value) => ({ value, share: offsets.has(value.name) ? 1 : choice.rangeRate })),
  );
  return graph;
}

/** One sequence's input and target, [time, hidden] each. */
interface Sequence {
  readonly shape: readonly number[];
  readonly x: Float32Array;
  readonly target: Float32Array;
}

function sequencesOf({ inputs, targets }: TrainedBlock): readonly Sequence[] {
  return inputs.flatMap((input, i) => {
    const [rows, time, hidden] = input.dims;
    const row = ({ data }: Tensor, at: number) =>
      (data as Float32Array).subarray(at * time * hidden, (at + 1) * time * hidden);
    return Array.from({ length: rows }, (_, at) => ({
      shape: [time, hidden],
      x: row(input, at),
      target: row(targets[i], at),
    }));
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
  const { shape } = sequences[0];
  const joined = (part: (sequence: Sequence) => Float32Array) => {
    const size = shape[0] * shape[1];
    const data = new Float32Array(indices.length * size);
    for (const [i, index] of indices.entries()) data.set(part(sequences[index]), i * size);
    return tensor('float32', [indices.length, ...shape], data);
  };
  return { x: joined(({ x }) => x), target: joined(({ target }) => target) };
}

/** Codes are taken from the nodes that training ran, so that they are those that were trained. */
async function encodings(
  { session: options }: TrainedBlock,
  matrices: ReadonlyMap<string, RoundedMatrix>,
  parameters: Feeds,
): Promise<Map<string, Encoding>> {
  const graph = new Graph(options.device === 'webgpu' ? 'initializers' : 'inputs');
  for (const { addCodes } of matrices.values()) addCodes(graph);
  const session = await openSession(graph, options);
  try {
    const fixed = graph.weightsAs === 'inputs' ? feedsOf(graph.weights) : {};
    const outputs = await session.run({ ...fixed, ...parameters });
    return new Map([...matrices].map(([name, { collect }]) => [name, collect(outputs)]));
  } finally {
    await session.release();
  }
}
