/**
 * End-to-end training of quantization parameters (E2E-QP: Chen et al. 2024, EfficientQAT, arXiv:2407.11062): codes stay as
 * a method chose them; scales and the weights of norms are trained so that the compressed model predicts what the
 * original does. The paper trains on the text's next tokens; here the loss is KL(original || compressed), which needs
 * no more text than calibration has. Forward and backward go block by block, each computed again for its gradient,
 * so that memory holds one block's values and the hidden states between blocks.
 */

import { z } from 'zod';
import { random } from '../../base/random.ts';
import type { Stored } from '../../base/tensor.ts';
import { toFloat32 } from '../../base/half.ts';
import { stored } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { Tensor } from '../../graph/session.ts';
import { embedded, forward } from '../../models/hidden.ts';
import type { Model } from '../../models/model.ts';
import { idsTensor, openRunner } from '../../models/runner.ts';
import type { Changes, ModelTraining, Named, TrainingContext } from '../../contract/method.ts';
import type { Student } from '../../train/passes.ts';
import { openPasses } from '../../train/passes.ts';
import type { Parameter } from '../../train/relative-adam.ts';
import { relativeAdam } from '../../train/relative-adam.ts';
import type { Tunable } from '../../train/scales.ts';
import { tunable } from '../../train/scales.ts';

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

function studentOf(model: Model): Student {
  const { architecture, config } = model;
  const tunables = new Map<string, Tunable>();
  const norms = new Map<string, Float32Array>();
  for (const layer of config.layers.keys()) {
    const structure = architecture.structure(config, layer);
    for (const { weight } of structure.norms)
      norms.set(weight, toFloat32(model.vectors.get(weight)!).slice());
    const prefix = `${architecture.layerName(layer)}.`;
    for (const [name, encoding] of model.matrices) {
      const found = name.startsWith(prefix) ? tunable(encoding) : undefined;
      if (found) tunables.set(name, found);
    }
  }
  const last = architecture.around(config).norm.weight;
  norms.set(last, toFloat32(model.vectors.get(last)!).slice());
  const matrices = new Map<string, Encoding>(model.matrices);
  for (const [name, { encoding }] of tunables) matrices.set(name, encoding);
  const vectors = new Map<string, Stored>(model.vectors);
  for (const [name, values] of norms) vectors.set(name, stored('float32', [values.length], values));
  const parameters = new Map([
    ...[...tunables].map(([name, { scales }]) => [`${name}.scales`, scales] as const),
    ...norms,
  ]);
  return { model: { ...model, matrices, vectors }, tunables, norms, parameters };
}

async function train(
  compressed: Model,
  teacher: Model,
  { epochs, rate, batch }: E2eQpOptions,
  { sequences, seed, session, progress, signal }: TrainingContext,
): Promise<Changes> {
  const student = studentOf(compressed);
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
  const matrices = [...student.tunables].map(([name, each]) => [name, each.finished()] as const);
  const vectors = [...student.norms].map(
    ([name, values]) => [name, stored('float32', [values.length], values)] as const,
  );
  return { matrices: new Map(matrices), vectors: new Map(vectors) };
}

/** What the model's head is fed, [1, time, hidden] for each sequence. */
async function lastHidden(
  model: Model,
  sequences: readonly Int32Array[],
  session: TrainingContext['session'],
  signal: AbortSignal | undefined,
): Promise<readonly Tensor[]> {
  const runner = openRunner(model, { ...session, longest: sequences[0].length });
  try {
    const { vocabulary, hidden: width, layers } = model.config;
    const ids = sequences.map((sequence) => idsTensor([sequence], vocabulary));
    const hidden = await embedded(await runner.embed(), ids, width, signal);
    for (const layer of layers.keys()) await forward(await runner.block(layer), hidden, signal);
    return hidden;
  } finally {
    await runner.release();
  }
}
