/**
 * End-to-end training of quantization parameters (E2E-QP: Chen et al. 2024, EfficientQAT, arXiv:2407.11062): codes stay as
 * a method chose them; scales and the weights of norms are trained so that the compressed model predicts what the
 * original does. The paper trains on the text's next tokens; here the loss is KL(original || compressed), which needs
 * no more text than calibration has. Forward and backward go block by block, each computed again for its gradient,
 * so that memory holds one block's values and the hidden states between blocks.
 */

import { z } from 'zod';
import { random } from '../../base/random.ts';
import type { Model } from '../../models/model.ts';
import { idsTensor } from '../../models/runner.ts';
import type { Changes, ModelTraining, Named, TrainingContext } from '../../contract/method.ts';
import { lastHidden, openPasses } from '../../train/passes.ts';
import type { Parameter } from '../../train/relative-adam.ts';
import { relativeAdam } from '../../train/relative-adam.ts';
import { trainable } from '../../train/trainable.ts';

const options = z.strictObject({
  epochs: z.int().min(1).max(100).default(4).describe('How often the calibration text is gone over.'),
  rate: z
    .number()
    .min(0)
    .max(1)
    .default(0.001)
    .describe('Of Adam, as a share of each number; falls to 0 as a cosine.'),
  batch: z.int().min(1).max(256).default(4).describe('Sequences of a training step.'),
});
export type E2eQpOptions = z.infer<typeof options>;

export const e2eQp: ModelTraining<E2eQpOptions> & Named<'e2e-qp', typeof options> = {
  shape: 'train',
  scope: 'model',
  name: 'e2e-qp',
  summary:
    'E2E-QP of EfficientQAT (arXiv:2407.11062): after compression, trains scales and norms by KL divergence from the original.',
  options,
  batch: ({ batch }) => batch,
  train,
};

async function train(
  compressed: Model,
  teacher: Model,
  { epochs, rate, batch }: E2eQpOptions,
  { sequences, seed, session, progress, signal }: TrainingContext,
): Promise<Changes> {
  const student = trainable(compressed, ({ kind }) => kind === 'scales' || kind === 'norms');
  const adam = relativeAdam(
    new Map([...student.parameters].map(([name, values]): [string, Parameter] => [name, { values }])),
  );
  const aims = await lastHidden(teacher, sequences, session, signal);
  const passes = await openPasses(student, teacher, { ...session, longest: sequences[0].length });
  try {
    const perEpoch = Math.ceil(sequences.length / batch);
    const total = epochs * perEpoch;
    let [step, loss] = [0, 0];
    for (let epoch = 0; epoch < epochs; epoch++) {
      const order = random(seed + epoch).shuffle([...sequences.keys()]);
      for (let from = 0; from < order.length; from += batch, step++) {
        signal?.throwIfAborted();
        const detail = step > 0 ? `KL divergence ${loss.toPrecision(3)}` : undefined;
        progress?.({ phase: 'train scales', done: step, total, detail });
        const chosen = order.slice(from, from + batch);
        const ids = idsTensor(
          chosen.map((index) => sequences[index]),
          compressed.config.vocabulary,
        );
        const found = await passes.run(
          ids,
          chosen.map((index) => aims[index]),
        );
        loss = found.loss;
        adam.step(found.gradients, (rate * (1 + Math.cos((Math.PI * step) / total))) / 2);
      }
    }
  } finally {
    await passes.release();
  }
  return student.finished();
}
