/**
 * SpinQuant (Liu, Zhao, Fedorov, Soran, Choudhary, Krishnamoorthi, Chandra, Tian, Blankevoort, 2024, arXiv:2405.16406):
 * the rotations of the residual stream (R1) and of attention values (R2, one for each layer) are learned on the orthogonal
 * group by Cayley SGD, from random Hadamard matrices on. The paper lowers the cross-entropy of the whole quantized network;
 * here a step lowers the error that rounding is expected to make in the outputs of one layer's matrices (src/transform/rotation/loss.ts),
 * layer after layer in random order, which needs the weights of one layer and the moments of all in memory, and minutes. What
 * that gives away: no layer knows how much its errors matter to the logits.
 */

import { z } from 'zod';
import { random } from '../../base/random.ts';
import { toFloat32 } from '../../base/half.ts';
import type { Stored } from '../../base/tensor.ts';
import { stored } from '../../base/tensor.ts';
import type { ModelRewrite, Named, Remembered, RewriteContext } from '../../contract/method.ts';
import type { Model } from '../../models/model.ts';
import { openCayley, unlearned } from '../../transform/rotation/cayley.ts';
import { fold } from '../../transform/rotation/fold.ts';
import { openLoss } from '../../transform/rotation/loss.ts';
import type { Rotations } from '../../transform/rotation/rotate.ts';
import { rotate } from '../../transform/rotation/rotate.ts';
import type { Rotation, Turner } from '../../transform/rotation/rotation.ts';
import { randomHeads, randomStream, withTurner } from '../../transform/rotation/rotation.ts';
import { sitesOf } from '../../transform/rotation/sites.ts';

const options = z.strictObject({
  bits: z.int().min(2).max(8).default(4).describe('Bits of a weight that the rotations are learned for.'),
  group: z
    .int()
    .min(-1)
    .default(32)
    .describe('Weights along a row that share a scale, as in what follows; -1 for the whole row.'),
  inputBits: z
    .int()
    .min(2)
    .max(16)
    .default(8)
    .describe('Bits of inputs, rounded token by token, that the rotations are learned for.'),
  steps: z.int().min(0).default(200).describe('Steps of Cayley SGD, each on one layer.'),
  angle: z
    .number()
    .positive()
    .max(0.5)
    .default(0.05)
    .describe('How far the first step turns, in radians; falls evenly to zero.'),
  samples: z.int().min(1).default(256).describe('Tokens whose rounding is looked at in each layer.'),
});
export type SpinquantOptions = z.infer<typeof options>;

export const spinquant: ModelRewrite<SpinquantOptions> & Named<'spinquant', typeof options> = {
  shape: 'rewrite',
  scope: 'model',
  changes: 'weights',
  name: 'spinquant',
  summary:
    'SpinQuant (arXiv:2405.16406): rotations learned by Cayley SGD, here on the expected error of each layer rather than on the loss of the network; a tied head gets a matrix of its own.',
  options,
  repeats: true,
  followedBy: { method: 'gptq' },
  needsText: () => true,
  rewrite: (model, choice, context) =>
    withTurner(context.session, async (turner) => {
      const folded = fold(model);
      const learned = await context.remember('rotations', async () => {
        const { rotations } = await learn(folded, choice, context, turner);
        return atRest(rotations, model.config.layers.length);
      });
      return rotate(folded, inUse(learned), { ...context, turner });
    }),
};

/** The learned rotations as tensors, and back. */
function atRest({ stream, heads }: Rotations, layers: number): Remembered {
  const all = new Map<string, Stored>();
  const add = (name: string, rotation: Rotation | undefined) => {
    if (rotation) all.set(name, stored('float32', [rotation.size, rotation.size], rotation.values));
  };
  add('stream', stream);
  for (let layer = 0; layer < layers; layer++) add(`heads.${layer}`, heads(layer));
  return all;
}

function inUse(tensors: Remembered): Rotations {
  const find = (name: string): Rotation | undefined => {
    const tensor = tensors.get(name);
    return tensor && { size: tensor.shape[0], values: toFloat32(tensor) };
  };
  return { stream: find('stream')!, heads: (layer) => find(`heads.${layer}`) };
}

/** @returns the rotations, and the loss of each step's layer before the step, as an expected share of error */
export async function learn(
  folded: Model,
  choice: SpinquantOptions,
  context: RewriteContext,
  turner: Turner,
): Promise<{ readonly rotations: Rotations; readonly losses: readonly number[] }> {
  const { architecture, config } = folded;
  const { session, seed, signal, progress } = context;
  const draw = random(seed).fork('spinquant');
  const sites = await sitesOf(folded, context, { samples: choice.samples, random: draw.fork('samples') });
  const headsOf = await randomHeads(folded, seed, turner);
  let stream = unlearned(await randomStream(folded, seed, turner));
  const heads = config.layers.map((_, layer) => unlearned(headsOf(layer)));
  const loss = openLoss(sites, config.hidden, choice, session);
  const cayley = {
    stream: await openCayley(architecture.around(config).centered, session),
    heads: await openCayley(false, session),
  };
  const losses: number[] = [];
  try {
    const order = Int32Array.from(config.layers.keys());
    for (let step = 0; step < choice.steps; step++) {
      signal?.throwIfAborted();
      if (step % order.length === 0) draw.shuffle(order);
      const layer = order[step % order.length];
      const found = await loss.at(layer, stream, heads[layer]);
      const angle = choice.angle * (1 - step / choice.steps);
      stream = await cayley.stream.step(stream, found.stream, angle);
      heads[layer] = await cayley.heads.step(heads[layer], found.heads, angle);
      losses.push(found.loss);
      progress?.({ phase: 'learn rotations', done: step + 1, total: choice.steps });
    }
    return { rotations: { stream, heads: (layer) => heads[layer] }, losses };
  } finally {
    await loss.release();
    await cayley.stream.release();
    await cayley.heads.release();
  }
}
