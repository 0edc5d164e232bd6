/**
 * Several ways to run one model, of which the first part of the text decides: the original runs once for all of them,
 * and the rest of the text sees only the one that was taken.
 */

import type { Collected, CollectOptions } from './collect.ts';
import { collect, joined, predictedTokens } from './collect.ts';
import type { EvaluateOptions, Evaluation } from './evaluate.ts';
import { checkVocabularies, evaluationOf } from './evaluate.ts';
import type { Scorer } from './scorer.ts';

export interface RivalsOptions extends Omit<EvaluateOptions, 'scorer' | 'against'> {
  readonly against: Scorer;
  /** @param kl mean divergence of each from the original, on the part; @returns the index of the one to take */
  readonly choose: (kl: readonly number[]) => number;
}

export interface Taken {
  readonly index: number;
  /** Mean divergence of each, on the part. */
  readonly kl: readonly number[];
  /** Of the one that was taken, on the whole text. */
  readonly evaluation: Evaluation;
}

/** Of the text a quarter decides, but no fewer tokens than these: rivals are compared token by token. */
const part = { share: 0.25, tokens: 2048 };

/**
 * @param rivals which are closed when they are of no more use
 * @throws LapidaryError as `evaluate`
 */
export async function evaluateRivals(rivals: readonly Scorer[], options: RivalsOptions): Promise<Taken> {
  const { against, sequences, choose } = options;
  for (const rival of rivals) checkVocabularies(rival, against);
  const open = new Set(rivals);
  const close = async (scorer: Scorer) => {
    open.delete(scorer);
    await scorer.close();
  };
  try {
    const cut = partOf(sequences);
    const found = await collect(rivals, {
      ...options,
      ...counted(options, 0),
      sequences: sequences.slice(0, cut),
    });
    const kl = found.map(({ compared }) => meanOf(compared!.kl));
    const index = choose(kl);
    for (const rival of rivals) if (rival !== rivals[index]) await close(rival);
    const rest = sequences.slice(cut);
    const before = predictedTokens(sequences.slice(0, cut));
    const after: Collected[] =
      rest.length > 0
        ? await collect([rivals[index]], { ...options, ...counted(options, before), sequences: rest })
        : [];
    const whole = after.reduce(joined, found[index]);
    return { index, kl, evaluation: evaluationOf(whole, options) };
  } finally {
    for (const rival of open) await close(rival);
  }
}

/** Sequences that decide: the first ones. */
function partOf(sequences: readonly Int32Array[]): number {
  const enough = Math.max(part.share * predictedTokens(sequences), part.tokens);
  let [count, tokens] = [0, 0];
  while (count < sequences.length && tokens < enough) tokens += sequences[count++].length - 1;
  return count;
}

/** Progress through the whole text. */
function counted({ sequences, progress }: RivalsOptions, before: number): Pick<CollectOptions, 'progress'> {
  const total = predictedTokens(sequences);
  return { progress: (event) => progress?.({ ...event, done: before + event.done, total }) };
}

const meanOf = (values: Float32Array): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
