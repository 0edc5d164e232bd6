/** What a method that sees the whole model is given besides it, and what it may ask for. */

import { predictionGradients } from '../calibrate/importance.ts';
import type { SampledTextOptions } from '../generate/sampled.ts';
import { sampledSequences } from '../generate/sampled.ts';
import type { Remembered, RewriteContext } from '../contract/method.ts';
import type { Journal } from '../io/journal.ts';
import type { Model } from '../models/model.ts';

/** @param sequences of calibration; token ids, all of one length */
export function contextOf(
  model: Model,
  sequences: readonly Int32Array[],
  {
    device,
    threads,
    seed,
    rounded = async () => undefined,
    remember = (_, make) => make(),
    progress,
    signal,
  }: Pick<SampledTextOptions, 'device' | 'threads' | 'seed' | 'progress' | 'signal'> & {
    readonly rounded?: RewriteContext['rounded'];
    readonly remember?: RewriteContext['remember'];
  },
): RewriteContext {
  const session = { device, threads };
  const work = { ...session, seed, progress, signal };
  return {
    sequences,
    seed,
    rounded,
    session,
    progress,
    signal,
    gradients: (asked) => predictionGradients(model, sequences, asked, work),
    samples: ({ count, length }) =>
      sampledSequences(model, { ...work, count, length: Math.min(length, model.config.context) }),
    remember,
  };
}

/** Keeps what a method wants to remember in the journal, under names of its step's own. */
export const remembering =
  (journal: Journal | undefined, step: string): RewriteContext['remember'] =>
  async (name, make): Promise<Remembered> => {
    const unit = `${step}-${name}`;
    const known = journal?.read(unit);
    if (known) return known.tensors;
    const tensors = await make();
    await journal?.write(unit, { tensors, data: null });
    return tensors;
  };
