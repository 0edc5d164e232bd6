/**
 * What a model loses: perplexity on text, and against its original the KL divergence and the share of equal top
 * tokens, each with a bootstrap interval over sequences.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Interval } from './bootstrap.ts';
import { bootstrap, quantile } from './bootstrap.ts';
import type { EvaluationDetails } from './details.ts';
import { evaluationDetails } from './details.ts';
import type { Collected } from './collect.ts';
import { collect } from './collect.ts';
import type { Scorer } from './scorer.ts';

/** A value and its 95% bootstrap interval, which of a single sequence there is none. */
export interface Estimate extends Partial<Interval> {
  readonly value: number;
}

/** How well a model predicts a text. */
export interface Prediction {
  /** How many tokens were predicted. */
  readonly tokens: number;
  /** Mean negative log-likelihood of a token, natural logarithm. */
  readonly nats: number;
  readonly perplexity: Estimate;
  readonly bitsPerCharacter: Estimate;
}

/** With what was measured against the original, where there was one. */
export interface Evaluation extends Prediction {
  /** KL(original || compressed) of a token, nats; the interval is the mean's. */
  readonly kl?: { readonly mean: number; readonly median: number; readonly p99: number } & Partial<Interval>;
  /** Share of tokens whose most likely prediction is the original's. */
  readonly agreement?: Estimate;
  /**
   * Perplexity over the original's. Both are of the same sequences, drawn again together, so that what makes a text
   * hard for both is not in the interval: it says more than the two perplexities' own.
   */
  readonly perplexityRatio?: Estimate;
  /** The original on the same tokens. */
  readonly original?: Prediction;
  /** Where asked for. */
  readonly details?: EvaluationDetails;
}

export interface EvaluateOptions {
  readonly scorer: Scorer;
  /** The original, for divergence. */
  readonly against?: Scorer | undefined;
  readonly sequences: readonly Int32Array[];
  /** Characters that each sequence's predicted tokens stand for. */
  readonly characters: readonly number[];
  /** Whether to say where the loss is; there must be an original. */
  readonly details?: boolean | undefined;
  /** Of the bootstrap. */
  readonly seed?: number | undefined;
  readonly session?: SessionOptions | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** @throws LapidaryError when the two models have different vocabularies, or a prediction is not finite */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const { scorer, against } = options;
  if (against) checkVocabularies(scorer, against);
  const [collected] = await collect([scorer], options);
  return evaluationOf(collected, options);
}

/** @throws LapidaryError when the two models have different ones */
export function checkVocabularies(scorer: Scorer, against: Scorer): void {
  if (against.vocabulary === scorer.vocabulary) return;
  throw new LapidaryError({
    what: 'the two models have different vocabularies, so that their predictions cannot be compared',
    expected: `${against.vocabulary} tokens, as the original`,
    found: `${scorer.vocabulary} tokens`,
  });
}

/** What comes of predictions; with an original where there was one. */
export function evaluationOf(
  { nats, compared }: Collected,
  options: Sample & Pick<EvaluateOptions, 'details'>,
): Evaluation {
  const { sequences } = options;
  const evaluation = predictionOf(nats, options);
  if (!compared) return evaluation;
  const { kl, originalNats, top, originalTop } = compared;
  const same = top.map((token, index) => (token === originalTop[index] ? 1 : 0));
  const more = Float64Array.from(nats, (value, token) => value - originalNats[token]);
  const sorted = kl.toSorted();
  const { value: mean, ...interval } = meanOf(kl, options);
  return {
    ...evaluation,
    kl: { mean, median: quantile(sorted, 0.5), p99: quantile(sorted, 0.99), ...interval },
    agreement: meanOf(same, options),
    perplexityRatio: exponential(meanOf(more, options)),
    original: predictionOf(originalNats, options),
    ...(options.details ? { details: evaluationDetails(sequences, compared) } : {}),
  };
}

type Sample = Pick<EvaluateOptions, 'sequences' | 'characters' | 'seed'>;

function predictionOf(nats: Float32Array, sample: Sample): Prediction {
  const bits = sumsOf(nats, sample).map((value) => value / Math.LN2);
  const mean = meanOf(nats, sample);
  return {
    tokens: nats.length,
    nats: mean.value,
    perplexity: exponential(mean),
    bitsPerCharacter: ratioOf(bits, sample.characters, sample),
  };
}

function exponential({ value, low, high }: Estimate): Estimate {
  if (low === undefined || high === undefined) return { value: Math.exp(value) };
  return { value: Math.exp(value), low: Math.exp(low), high: Math.exp(high) };
}

/** Of a number a token. */
function meanOf(values: ArrayLike<number>, sample: Sample): Estimate {
  const counts = sample.sequences.map(({ length }) => length - 1);
  return ratioOf(sumsOf(values, sample), counts, sample);
}

function ratioOf(totals: Float64Array, counts: readonly number[], { seed }: Sample): Estimate {
  const value = sum(totals) / sum(counts);
  return totals.length < 2 ? { value } : { value, ...bootstrap(totals, counts, { seed }) };
}

/** Of each sequence. */
function sumsOf(values: ArrayLike<number>, { sequences }: Sample): Float64Array {
  let token = 0;
  return Float64Array.from(sequences, ({ length }) => {
    let total = 0;
    for (const end = token + length - 1; token < end; token++) total += values[token];
    return total;
  });
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
