/**
 * What a model loses: perplexity on text, and against its original the KL divergence and the share of equal top
 * tokens, each with a bootstrap interval over sequences.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Interval } from './bootstrap.ts';
import { bootstrap, quantile } from './bootstrap.ts';
import { openReducer } from './reduce.ts';
import type { LogitChunk, Scorer } from './scorer.ts';

/** A value and its 95% bootstrap interval. */
export interface Estimate extends Interval {
  readonly value: number;
}

export interface Evaluation {
  /** How many tokens were predicted. */
  readonly tokens: number;
  /** Mean negative log-likelihood of a token, natural logarithm. */
  readonly nats: number;
  readonly perplexity: Estimate;
  readonly bitsPerCharacter: Estimate;
  /** KL(original || compressed) of a token, nats; the interval is the mean's. */
  readonly kl?: { readonly mean: number; readonly median: number; readonly p99: number } & Interval;
  /** Share of tokens whose most likely prediction is the original's. */
  readonly agreement?: Estimate;
}

export interface EvaluateOptions {
  readonly scorer: Scorer;
  /** The original, for divergence. */
  readonly against?: Scorer | undefined;
  readonly sequences: readonly Int32Array[];
  /** Characters that each sequence's predicted tokens stand for. */
  readonly characters: readonly number[];
  /** Of the bootstrap. */
  readonly seed?: number | undefined;
  readonly session?: SessionOptions | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Per-sequence sums, and every token's divergence. */
interface Totals {
  readonly tokens: Float64Array;
  readonly nats: Float64Array;
  readonly kl: Float64Array;
  readonly same: Float64Array;
  readonly divergences: Float32Array;
}

/** @throws LapidaryError when the two models have different vocabularies, or a prediction is not finite */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const { scorer, against } = options;
  if (against && against.vocabulary !== scorer.vocabulary) {
    throw new LapidaryError({
      what: 'the two models have different vocabularies, so that their predictions cannot be compared',
      expected: `${against.vocabulary} tokens, as the original`,
      found: `${scorer.vocabulary} tokens`,
    });
  }
  const totals = await collect(options);
  const tokens = sum(totals.tokens);
  const nats = sum(totals.nats) / tokens;
  const interval = (values: Float64Array, counts: ArrayLike<number>) =>
    bootstrap(values, counts, { seed: options.seed });
  const { low, high } = interval(totals.nats, totals.tokens);
  const bits = totals.nats.map((value) => value / Math.LN2);
  const evaluation: Evaluation = {
    tokens,
    nats,
    perplexity: { value: Math.exp(nats), low: Math.exp(low), high: Math.exp(high) },
    bitsPerCharacter: { value: sum(bits) / sum(options.characters), ...interval(bits, options.characters) },
  };
  if (!against) return evaluation;
  const sorted = totals.divergences.toSorted();
  return {
    ...evaluation,
    kl: {
      mean: sum(totals.kl) / tokens,
      median: quantile(sorted, 0.5),
      p99: quantile(sorted, 0.99),
      ...interval(totals.kl, totals.tokens),
    },
    agreement: { value: sum(totals.same) / tokens, ...interval(totals.same, totals.tokens) },
  };
}

async function collect(options: EvaluateOptions): Promise<Totals> {
  const { scorer, against, sequences, signal } = options;
  const tokens = Float64Array.from(sequences, (sequence) => sequence.length - 1);
  const all = sum(tokens);
  const zeros = () => new Float64Array(sequences.length);
  const totals = {
    tokens,
    nats: zeros(),
    kl: zeros(),
    same: zeros(),
    divergences: new Float32Array(against ? all : 0),
  };
  const reducer = openReducer(scorer.vocabulary, options.session);
  let done = 0;
  try {
    for await (const [chunk, original] of zip(
      scorer.score(sequences, signal),
      against?.score(sequences, signal),
    )) {
      const sequence = sequences[chunk.sequence];
      const targets = sequence.subarray(chunk.start + 1, chunk.start + 1 + chunk.rows);
      if (original) {
        const { nats, kl, same } = await reducer.compare(original.logits, chunk.logits, targets);
        totals.divergences.set(kl, done);
        totals.nats[chunk.sequence] += sum(nats);
        totals.kl[chunk.sequence] += sum(kl);
        totals.same[chunk.sequence] += sum(same);
      } else {
        totals.nats[chunk.sequence] += sum(await reducer.losses(chunk.logits, targets));
      }
      if (!Number.isFinite(totals.nats[chunk.sequence])) throw notFinite(chunk);
      done += chunk.rows;
      options.progress?.({ phase: 'evaluate', done, total: all, detail: undefined });
    }
  } finally {
    await reducer.close();
  }
  return totals;
}

/** Two scorers chunk alike, so that their chunks pair. */
async function* zip(
  first: AsyncIterable<LogitChunk>,
  second: AsyncIterable<LogitChunk> | undefined,
): AsyncGenerator<readonly [LogitChunk, LogitChunk | undefined]> {
  const others = second?.[Symbol.asyncIterator]();
  try {
    for await (const chunk of first) {
      const other = (await others?.next())?.value as LogitChunk | undefined;
      if (
        others &&
        (other?.sequence !== chunk.sequence || other.start !== chunk.start || other.rows !== chunk.rows)
      ) {
        throw new Error('two scorers cut the sequences differently');
      }
      yield [chunk, other];
    }
  } finally {
    await others?.return?.();
  }
}

function notFinite(chunk: LogitChunk): LapidaryError {
  return new LapidaryError({
    what: 'the model predicts values that are not finite',
    where: `sequence ${chunk.sequence}, tokens ${chunk.start} to ${chunk.start + chunk.rows}`,
    expected: 'finite logits',
    found: 'NaN or infinity',
  });
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
