/** Training of tensors that the method names: of a block that is compressed, and of the whole model. */

import { z } from 'zod';
import type { BlockTraining, Changes, ModelTraining } from '../../src/contract/method.ts';
import { idsTensor } from '../../src/models/runner.ts';
import { descendTensors } from '../../src/train/block-descent.ts';
import { lastHidden, openPasses } from '../../src/train/passes.ts';
import { relativeAdam } from '../../src/train/relative-adam.ts';
import { trainable } from '../../src/train/trainable.ts';
import type { CountedFamily } from './counts.ts';
import { magnitude } from './prune.ts';

const options = z.strictObject({
  trains: z.enum(['weights', 'scales', 'norms', 'vectors']).default('norms').describe('Which tensors move.'),
  steps: z.int().min(1).max(100).default(8).describe('Of Adam.'),
  rate: z.number().min(0).max(1).default(0.005).describe('As a share of each number; zeros stay zeros.'),
});
type TrainOptions = z.infer<typeof options>;

const nothing: Changes = { matrices: new Map(), vectors: new Map() };

/** A block is brought back to what it computed, and stays as it is where it gains nothing. */
export const tuneBlocks: BlockTraining<TrainOptions> = {
  shape: 'train',
  scope: 'compressed block',
  name: 'tune-blocks',
  summary: 'Trains chosen tensors of each block that is compressed.',
  options,
  fisher: () => 0,
  batch: () => 2,
  async train(block, { trains, steps, rate }) {
    const own = trainable(block.model, ({ kind, layer }) => kind === trains && layer === block.layer);
    if (own.parameters.size === 0) return nothing;
    const tensors = new Map(
      [...own.parameters].map(([input, values]) => {
        const adam = relativeAdam(new Map([[input, { values }]]));
        return [input, { values, move: (slope: Float32Array) => adam.step(new Map([[input, slope]]), rate) }];
      }),
    );
    const gained = await descendTensors(
      block,
      { tensors, model: own.model },
      { steps, batch: 2, move: ({ move }, slope) => move(slope) },
    );
    return gained ? own.finished() : nothing;
  },
};

/** Distillation of the whole model on the calibration text (Hinton et al. 2015, arXiv:1503.02531). */
export const tuneModel: ModelTraining<TrainOptions> = {
  shape: 'train',
  scope: 'model',
  name: 'tune-model',
  summary: 'Trains chosen tensors of all layers by KL divergence from the original.',
  options,
  batch: ({ steps }) => Math.min(2, steps),
  async train(student, teacher, { trains, steps, rate }, { sequences, session, signal }) {
    const own = trainable(student, ({ kind }) => kind === trains);
    const adam = relativeAdam(new Map([...own.parameters].map(([name, values]) => [name, { values }])));
    const text = sequences.slice(0, 2);
    const aims = await lastHidden(teacher, text, session, signal);
    const passes = await openPasses(own, teacher, { ...session, longest: text[0]!.length });
    try {
      for (let step = 0; step < steps; step++) {
        const { gradients } = await passes.run(idsTensor(text, student.config.vocabulary), aims);
        adam.step(gradients, rate);
      }
    } finally {
      await passes.release();
    }
    return own.finished();
  },
};

export const train: CountedFamily = {
  name: 'train',
  title: 'Training of chosen tensors',
  baseline: magnitude,
  methods: [tuneBlocks, tuneModel],
  adds: {},
};
