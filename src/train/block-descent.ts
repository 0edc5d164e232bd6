/**
 * A block's matrices moved step by step so that the block computes what it should: the engine gives the gradient of the
 * error by the weights as they are multiplied, and what they are made of (codes, offsets, scales) is moved here, a
 * matrix at a time. So the graph is the block's own, whatever is trained.
 */

import { LapidaryError } from '../base/errors.ts';
import { random } from '../base/random.ts';
import { elementCount, stored } from '../base/tensor.ts';
import { denseValues } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { gradient } from '../graph/gradient.ts';
import type { Value } from '../graph/graph.ts';
import { Graph } from '../graph/graph.ts';
import { add, matmul, mul, reduceMean, sub } from '../graph/ops.ts';
import type { Feeds, Tensor } from '../graph/session.ts';
import { feedsOf, openSession, tensor } from '../graph/session.ts';
import { plainScope } from '../models/build.ts';
import type { TrainedBlock } from '../contract/method.ts';
import type { Model } from '../models/model.ts';
import type { Sequence } from './batches.ts';
import { batchOf, drawn, sequencesOf } from './batches.ts';

/** A tensor of the block's graph. */
export interface MovingTensor {
  /** What the block computes with now, row-major; written over when it moves. */
  readonly values: Float32Array;
}

/** One that is all that a block multiplies by, [rows, columns]. */
export interface MovingMatrix extends MovingTensor {
  /** The encoding of these values. */
  finished(): Encoding;
}

/** What moves of a block. */
export interface Moving<M extends MovingTensor> {
  /** By the input of the block's graph: "model.layers.0.mlp.up_proj.weight". */
  readonly tensors: ReadonlyMap<string, M>;
  /** The block's, in which these tensors are. */
  readonly model: Pick<Model, 'matrices' | 'vectors'>;
}

export interface Schedule<M extends MovingTensor> {
  readonly steps: number;
  /** Sequences of a step. */
  readonly batch: number;
  /** Errors e [hidden] count as e M e^T, M row-major [hidden, hidden] and symmetric; as e e^T without it. */
  readonly metric?: Float32Array | undefined;
  /** One step of one of them, counted from 0. */
  move(tensor: M, gradient: Float32Array, step: number): void;
}

/**
 * Tokens of a run: gradients of a step add up over runs, so that memory does not grow with the batch. Weights and
 * gradients cross to a GPU and back at each run.
 */
const tokensAtOnce = { cpu: 1024, webgpu: 8192 };
/** Of a batch, in one run on the CPU. */
export const sequencesAtOnce = (batch: number, length: number): number =>
  Math.min(batch, fitting(tokensAtOnce.cpu, length));

/** Sequences that fit so many tokens; at least one. */
const fitting = (tokens: number, length: number): number => Math.max(1, Math.floor(tokens / length));

/** Tokens that decide whether training was of use, which it may not be where text is little; a run costs a step's. */
const judgedTokens = 4096;

/** Moves matrices, by name, as `descendTensors` does. */
export function descend<M extends MovingMatrix>(
  block: TrainedBlock,
  matrices: ReadonlyMap<string, M>,
  schedule: Schedule<M>,
): Promise<boolean> {
  const { model } = block;
  const values = [...matrices].map(
    ([name, { values }]) => [name, denseValues(values, ...model.matrices.get(name)!.shape)] as const,
  );
  const tensors = new Map([...matrices].map(([name, matrix]) => [`${name}.weight`, matrix]));
  const moving = { tensors, model: { ...model, matrices: new Map([...model.matrices, ...values]) } };
  return descendTensors(block, moving, schedule);
}

/**
 * Moves the tensors in place.
 * @returns whether the block is nearer to its targets than before, on the first few sequences
 * @throws LapidaryError where the error is no number
 */
export async function descendTensors<M extends MovingTensor>(
  block: TrainedBlock,
  moving: Moving<M>,
  { steps, batch, metric, move }: Schedule<M>,
): Promise<boolean> {
  const sequences = sequencesOf(block);
  const size = Math.min(batch, sequences.length);
  const slopes = await openSlopes(block, moving, { size, metric });
  try {
    const judged = sequences.slice(0, fitting(judgedTokens, sequences[0].shape[0]));
    const before = await slopes.loss(judged);
    const { integer } = random(block.seed);
    for (let step = 0; step < steps; step++) {
      block.signal?.throwIfAborted();
      const chosen = drawn(sequences.length, size, integer).map((index) => sequences[index]);
      const found = await slopes.gradients(chosen);
      for (const [input, slope] of found) move(moving.tensors.get(input)!, slope, step);
      block.step(step + 1, steps);
    }
    return (await slopes.loss(judged)) < before;
  } finally {
    await slopes.release();
  }
}

interface Slopes {
  /** Mean over the sequences. */
  loss(sequences: readonly Sequence[]): Promise<number>;
  /** Of the loss by the tensors, by input; valid until the next call. */
  gradients(sequences: readonly Sequence[]): Promise<ReadonlyMap<string, Float32Array>>;
  release(): Promise<void>;
}

/** @param size sequences of a step */
async function openSlopes(
  block: TrainedBlock,
  { tensors, model }: Moving<MovingTensor>,
  { size, metric }: { readonly size: number; readonly metric: Float32Array | undefined },
): Promise<Slopes> {
  const loss = blockLoss(block, model, metric);
  const { graph } = loss;
  // What the block does not read has no slope.
  const moving = [...tensors].flatMap(([input, { values }]) => {
    const weight = graph.weights.get(input);
    return weight ? [{ input, values, value: weight.value }] : [];
  });
  graph.output('loss', loss);
  const slopes = gradient(
    loss,
    moving.map(({ value }) => value),
  );
  const most = tokensAtOnce[block.session.device ?? 'cpu'];
  // Over several runs the engine adds up.
  const adds = size > fitting(most, block.inputs[0].dims[1]);
  for (const [i, { value }] of moving.entries())
    graph.output(
      `slope.${i}`,
      adds ? add(graph.input(`sum.${i}`, 'float32', value.shape), slopes[i]) : slopes[i],
    );
  const session = await openSession(graph, block.session);
  // Fed as they are: what is written to them is what the next run multiplies by.
  const weights = moving.map(
    ({ input, values, value }) => [input, tensor('float32', value.shape as number[], values)] as const,
  );
  const fixed = { ...feedsOf(graph.weights), ...Object.fromEntries(weights) };
  // Written into at every run: fresh ones would pile up until somebody collects them.
  const buffers = () =>
    moving.map(({ value: { shape } }) =>
      tensor('float32', shape as number[], new Float32Array(elementCount(shape as number[]))),
    );
  // What the engine reads is not what it writes.
  let [sums, before] = [buffers(), adds ? buffers() : []];
  const numbered = (name: string, tensors: readonly Tensor[]) =>
    Object.fromEntries(tensors.map((each, i) => [`${name}.${i}`, each]));
  return {
    async loss(sequences) {
      const known = { ...fixed, ...numbered('sum', before) };
      let all = 0;
      for (const feeds of runsOf(sequences, most))
        all += Number((await session.run({ ...known, ...feeds }, ['loss'])).loss.data[0]);
      return all;
    },
    async gradients(sequences) {
      for (const { data } of sums) (data as Float32Array).fill(0);
      for (const feeds of runsOf(sequences, most)) {
        if (adds) [sums, before] = [before, sums];
        const known = { ...fixed, ...numbered('sum', before) };
        const outputs = { loss: null, ...numbered('slope', sums) };
        const found = await session.run({ ...known, ...feeds }, outputs);
        checkLoss(Number(found.loss.data[0]));
      }
      return new Map(moving.map(({ input }, i) => [input, sums[i].data as Float32Array]));
    },
    release: () => session.release(),
  };
}

/** The mean squared error of what the block gives for a batch, tokens weighted. */
function blockLoss(
  { model, layer, inputs, names }: TrainedBlock,
  own: Moving<MovingTensor>['model'],
  metric: Float32Array | undefined,
): Value {
  const { architecture, config } = model;
  const [, time, hidden] = inputs[0].dims;
  const graph = new Graph('inputs');
  // Products with packed weights have no gradient; those with their values do.
  const decoded = new Map(
    names
      .filter((name) => own.matrices.get(name) === model.matrices.get(name))
      .map((name) => {
        const matrix = model.matrices.get(name)!;
        return [name, denseValues(matrix.dense(), ...matrix.shape)];
      }),
  );
  const find = (name: string) => decoded.get(name) ?? own.matrices.get(name);
  const scope = plainScope(graph, config, { matrices: { get: find }, vectors: own.vectors }, { time });
  const given = architecture.block(scope, graph.input('x', 'float32', ['batch', time, hidden]), layer);
  const error = sub(given, graph.input('target', 'float32', ['batch', time, hidden]));
  const measured = metric
    ? matmul(error, graph.weight('metric', stored('float32', [hidden, hidden], metric)))
    : error;
  const weights = graph.input('weights', 'float32', ['batch', time, 1]);
  return reduceMean(mul(mul(measured, error), weights), [0, 1, 2]);
}

/** The sequences in runs of so many tokens, which weigh as much as is their share of them: losses and gradients add up. */
function runsOf(sequences: readonly Sequence[], most: number): readonly Feeds[] {
  const rows = fitting(most, sequences[0].shape[0]);
  const count = Math.ceil(sequences.length / rows);
  return Array.from({ length: count }, (_, run) => {
    const own = sequences.slice(run * rows, (run + 1) * rows);
    return batchOf(own, own.length / sequences.length);
  });
}

function checkLoss(loss: number): void {
  if (Number.isFinite(loss)) return;
  throw new LapidaryError({
    what: 'training diverged',
    found: `loss ${loss}`,
    fix: 'lower the rates of the method that trains blocks',
  });
}
