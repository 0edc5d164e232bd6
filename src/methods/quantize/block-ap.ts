/**
 * Block-wise training of all parameters (Block-AP: Chen et al. 2024, EfficientQAT, arXiv:2407.11062): after a block's
 * matrices are rounded, their codes and scales are trained by Adam so that the block computes what it did. Errors count
 * by what they do to the model's predictions, in the metric of their Fisher information (Li et al. 2021, BRECQ,
 * arXiv:2102.05426, which takes its diagonal): e M e^T with
 *   M = f F / mean(diag F) + (1 - f) I,   F = E[g g^T],   g the gradient of the predictions by the block's output.
 * It begins with what another method has chosen, GPTQ best of all, and keeps that where it gains nothing.
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import { random } from '../../base/random.ts';
import { denseValues } from '../../encodings/dense.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { gradient } from '../../graph/gradient.ts';
import type { Feeds } from '../../graph/session.ts';
import { feedsOf, openSession, tensor } from '../../graph/session.ts';
import type { BlockTraining, CompressedBlock } from '../contract.ts';
import { batchOf, drawn, sequencesOf } from './batches.ts';
import type { BlockInTraining } from './block-loss.ts';
import { blockLoss, leastLoss } from './block-loss.ts';
import type { LatentMatrix } from './latent-codes.ts';
import { latentMatrix } from './latent-codes.ts';

const options = z.strictObject({
  blockSteps: z.int().min(1).max(10000).default(400).describe('Training steps of each block.'),
  blockBatch: z.int().min(1).max(256).default(2).describe('Calibration sequences of a step.'),
  codeRate: z
    .number()
    .min(0)
    .max(1)
    .default(0.0015)
    .describe('Of Adam, for codes, in steps of the grid; it falls to 0.'),
  scaleRate: z
    .number()
    .min(0)
    .max(1)
    .default(0.0005)
    .describe('The same for scales, as a share of each; 0 keeps them.'),
  fisherMetric: z
    .number()
    .min(0)
    .max(1)
    .default(0.5)
    .describe(
      'Share by which errors of a block count by what they do to predictions, not all alike (BRECQ); 0 saves a backward pass.',
    ),
});
export type BlockApOptions = z.infer<typeof options>;

export const blockAp: BlockTraining<BlockApOptions> = {
  shape: 'train',
  scope: 'compressed block',
  name: 'block-ap',
  summary:
    'Block-AP of EfficientQAT (arXiv:2407.11062): trains codes and scales of each block that is compressed, so that it computes what it did.',
  options,
  fisher: ({ fisherMetric }) => fisherMetric,
  batch: ({ blockBatch }) => blockBatch,
  train,
};

async function train(given: CompressedBlock, choice: BlockApOptions): Promise<Map<string, Encoding>> {
  const { seed, signal } = given;
  const matrices = latentMatrices(given);
  if (matrices.size === 0) return new Map();
  const block = blockOf(given, matrices, choice);
  const { sequences, size } = block;
  const descent = await openSlopes(block, matrices);
  try {
    const start = copied(descent.weights);
    const { integer } = random(seed);
    for (let step = 0; step < choice.blockSteps; step++) {
      signal?.throwIfAborted();
      const slopes = await descent.at(batchOf(sequences, drawn(sequences.length, size, integer)));
      const left = 1 - step / choice.blockSteps;
      const rates = { codes: left * choice.codeRate, scales: left * choice.scaleRate, step: step + 1 };
      for (const [name, matrix] of matrices) matrix.step(slopes.get(name)!, rates);
      given.step(step + 1, choice.blockSteps);
    }
    if ((await leastLoss(block, [start, descent.weights])) === start) return new Map();
    return new Map([...matrices].map(([name, matrix]) => [name, matrix.finished()]));
  } finally {
    await descent.release();
  }
}

function latentMatrices({ model, names, before }: CompressedBlock): ReadonlyMap<string, LatentMatrix> {
  const found = new Map<string, LatentMatrix>();
  for (const name of names) {
    const latent = latentMatrix(model.matrices.get(name)!, before.get(name)!.dense());
    if (latent) found.set(name, latent);
  }
  return found;
}

function blockOf(
  given: CompressedBlock,
  matrices: ReadonlyMap<string, LatentMatrix>,
  { blockBatch, fisherMetric }: BlockApOptions,
): BlockInTraining {
  const { model, layer, session, metric, names } = given;
  const sequences = sequencesOf(given);
  // Products with packed weights have no gradient; those with their values do.
  const dense = (name: string) => {
    const { shape } = model.matrices.get(name)!;
    return denseValues(matrices.get(name)?.values ?? model.matrices.get(name)!.dense(), ...shape);
  };
  return {
    model,
    layer,
    matrices: new Map(names.map((name) => [name, dense(name)])),
    sequences,
    size: Math.min(blockBatch, sequences.length),
    metric: metric && mixed(metric, fisherMetric),
    session,
    weightsAs: 'inputs',
  };
}

/** M of the file's head, of F. */
function mixed(fisher: Float32Array, share: number): Float32Array {
  const size = Math.sqrt(fisher.length);
  let mean = 0;
  for (let i = 0; i < size; i++) mean += fisher[i * size + i] / size;
  return fisher.map(
    (value, at) => (mean > 0 ? (share * value) / mean : 0) + (at % (size + 1) === 0 ? 1 - share : 0),
  );
}

const copied = (feeds: Feeds): Feeds =>
  Object.fromEntries(
    Object.entries(feeds).map(([name, { dims, data }]) => [
      name,
      tensor('float32', dims, (data as Float32Array).slice()),
    ]),
  );

interface Slopes {
  /** What is fed of the matrices; their data changes with every step. */
  readonly weights: Feeds;
  /** Gradients of the loss by the weights, by the matrix's name. @throws LapidaryError where the loss is no number */
  at(batch: Feeds): Promise<ReadonlyMap<string, Float32Array>>;
  release(): Promise<void>;
}

async function openSlopes(
  block: BlockInTraining,
  matrices: ReadonlyMap<string, LatentMatrix>,
): Promise<Slopes> {
  const loss = blockLoss(block);
  const { graph } = loss;
  const trained = [...matrices].map(([name, { values }]) => {
    const input = `${name}.weight`;
    return { name, input, values, value: graph.weights.get(input)!.value };
  });
  graph.output('loss', loss);
  for (const [i, slope] of gradient(
    loss,
    trained.map(({ value }) => value),
  ).entries())
    graph.output(`slope.${i}`, slope);
  const session = await openSession(graph, block.session);
  const weights = Object.fromEntries(
    trained.map(({ input, values, value }) => [input, tensor('float32', value.shape as number[], values)]),
  );
  const fixed = feedsOf(graph.weights);
  return {
    weights,
    async at(batch) {
      const outputs = await session.run({ ...fixed, ...batch, ...weights });
      const found = Number(outputs.loss.data[0]);
      if (!Number.isFinite(found)) {
        throw new LapidaryError({
          what: 'training diverged',
          found: `loss ${found}`,
          fix: 'lower --code-rate or --scale-rate',
        });
      }
      return new Map(trained.map(({ name }, i) => [name, outputs[`slope.${i}`].data as Float32Array]));
    },
    release: () => session.release(),
  };
}
