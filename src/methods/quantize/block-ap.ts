/**
 * Block-wise training of all parameters (Block-AP: Chen et al. 2024, EfficientQAT, arXiv:2407.11062): after a block's
 * matrices are rounded, their codes and scales are trained by Adam so that the block computes what it did. Errors count
 * by what they do to the model's predictions, in the metric of their Fisher information (Li et al. 2021, BRECQ,
 * arXiv:2102.05426, which takes its diagonal): e M e^T with
 *   M = f F / mean(diag F) + (1 - f) I,   F = E[g g^T],   g the gradient of the predictions by the block's output.
 * It begins with what another method has chosen, GPTQ best of all, and keeps that where it gains nothing.
 */

import { z } from 'zod';
import { elementCount } from '../../base/tensor.ts';
import type { Kernels } from '../../kernels/kernels.ts';
import { withKernels } from '../../kernels/kernels.ts';
import type { BlockTraining, Changes, CompressedBlock, Named } from '../../contract/method.ts';
import { descend, sequencesAtOnce } from '../../train/block-descent.ts';
import type { LatentMatrix } from '../../train/latent-codes.ts';
import { latentMatrix } from '../../train/latent-codes.ts';

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

export const blockAp: BlockTraining<BlockApOptions> & Named<'block-ap', typeof options> = {
  shape: 'train',
  scope: 'compressed block',
  name: 'block-ap',
  summary:
    'Block-AP of EfficientQAT (arXiv:2407.11062): trains codes and scales of each block that is compressed, so that it computes what it did.',
  options,
  fisher: ({ fisherMetric }) => fisherMetric,
  batch: ({ blockBatch }, length) => sequencesAtOnce(blockBatch, length),
  train,
};

const unchanged: Changes = { matrices: new Map(), vectors: new Map() };

async function train(block: CompressedBlock, choice: BlockApOptions): Promise<Changes> {
  return withKernels(async (kernels) => {
    const matrices = latentMatrices(kernels, block);
    if (matrices.size === 0) return unchanged;
    const gained = await descend(block, matrices, {
      steps: choice.blockSteps,
      batch: choice.blockBatch,
      metric: block.metric && mixed(block.metric, choice.fisherMetric),
      move(matrix, gradient, step) {
        const left = 1 - step / choice.blockSteps;
        const rates = { codes: left * choice.codeRate, scales: left * choice.scaleRate, step: step + 1 };
        matrix.step(gradient, rates);
      },
    });
    if (!gained) return unchanged;
    const trained = [...matrices].map(([name, matrix]) => [name, matrix.finished()] as const);
    return { ...unchanged, matrices: new Map(trained) };
  }, block.session.threads);
}

function latentMatrices(
  kernels: Kernels,
  { model, names, before }: CompressedBlock,
): ReadonlyMap<string, LatentMatrix> {
  const found = new Map<string, LatentMatrix>();
  const weights = names.map((name) => elementCount(model.matrices.get(name)!.shape));
  const flow = kernels.reserve(4 * Math.max(0, ...weights));
  for (const name of names) {
    const latent = latentMatrix(kernels, flow, model.matrices.get(name)!, before.get(name)!.dense());
    if (latent) found.set(name, latent);
  }
  return found;
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
