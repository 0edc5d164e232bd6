/** Several models over one text against the same original, which runs once for all of them. */

import { LapidaryError } from '../base/errors.ts';
import type { Progress } from '../base/progress.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Comparison, Reducer } from './reduce.ts';
import { emptyComparison, openReducer } from './reduce.ts';
import type { LogitChunk, Scorer } from './scorer.ts';

/** Of every token, sequence after sequence. */
export interface Collected {
  readonly nats: Float32Array;
  readonly compared?: Comparison | undefined;
}

export interface CollectOptions {
  /** The original, for divergence. */
  readonly against?: Scorer | undefined;
  readonly sequences: readonly Int32Array[];
  readonly session?: SessionOptions | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** How many tokens of sequences are predicted: all but the first of each. */
export const predictedTokens = (sequences: readonly Int32Array[]): number =>
  sequences.reduce((count, { length }) => count + length - 1, 0);

/** @throws LapidaryError where a prediction is not finite */
export async function collect(scorers: readonly Scorer[], options: CollectOptions): Promise<Collected[]> {
  const { against, sequences, signal, session } = options;
  const total = predictedTokens(sequences);
  const found = scorers.map((): Collected => {
    const compared = against && emptyComparison(total);
    return { nats: compared?.nats ?? new Float32Array(total), compared };
  });
  const reducer = openReducer(scorers[0].vocabulary, session);
  const all = against ? [against, ...scorers] : scorers;
  let done = 0;
  try {
    for await (const chunks of together(all.map((scorer) => scorer.score(sequences, signal)))) {
      const original = against && chunks[0];
      const own = original ? chunks.slice(1) : chunks;
      const { start, rows } = own[0];
      const targets = sequences[own[0].sequence].subarray(start + 1, start + 1 + rows);
      for (const [index, chunk] of own.entries())
        await take(reducer, found[index], { chunk, original, targets, at: done });
      done += rows;
      options.progress?.({ phase: 'evaluate', done, total, detail: undefined });
    }
  } finally {
    await reducer.close();
  }
  return found;
}

interface Taken {
  readonly chunk: LogitChunk;
  readonly original: LogitChunk | undefined;
  readonly targets: Int32Array;
  /** Tokens before the chunk's. */
  readonly at: number;
}

async function take(
  reducer: Reducer,
  { nats, compared }: Collected,
  { chunk, original, targets, at }: Taken,
): Promise<void> {
  if (!original) {
    const result = await reducer.losses(chunk.logits, targets);
    checkFinite('the model', result, chunk);
    nats.set(result, at);
    return;
  }
  const result = await reducer.compare(original.logits, chunk.logits, targets);
  checkFinite('the model', result.nats, chunk);
  checkFinite('the original', result.originalNats, chunk);
  checkFinite('one of the two models', result.kl, chunk);
  for (const name of keysOf(result)) compared![name].set(result[name], at);
}

/** The same of one text after the other. */
export function joined(first: Collected, second: Collected): Collected {
  const nats = both(first.nats, second.nats);
  if (!first.compared || !second.compared) return { nats };
  const { compared } = first;
  const values = keysOf(compared).map((name) => [name, both(compared[name], second.compared![name])]);
  return { nats, compared: Object.fromEntries(values) as unknown as Comparison };
}

function both<T extends Float32Array | Int32Array>(first: T, second: T): T {
  const array = new (first.constructor as new (length: number) => T)(first.length + second.length);
  array.set(first);
  array.set(second, first.length);
  return array;
}

const keysOf = (comparison: Comparison) => Object.keys(comparison) as (keyof Comparison)[];

/** Scorers cut alike, so that their chunks pair. */
async function* together(
  scores: readonly AsyncIterable<LogitChunk>[],
): AsyncGenerator<readonly LogitChunk[]> {
  const iterators = scores.map((score) => score[Symbol.asyncIterator]());
  try {
    for (;;) {
      const chunks: LogitChunk[] = [];
      for (const iterator of iterators) {
        const { done, value } = await iterator.next();
        if (done) return;
        chunks.push(value);
      }
      const [{ sequence, start, rows }] = chunks;
      if (chunks.some((chunk) => chunk.sequence !== sequence || chunk.start !== start || chunk.rows !== rows))
        throw new Error('two scorers cut the sequences differently');
      yield chunks;
    }
  } finally {
    for (const iterator of iterators) await iterator.return?.();
  }
}

function checkFinite(who: string, losses: Float32Array, { sequence, start }: LogitChunk): void {
  const row = losses.findIndex((value) => !Number.isFinite(value));
  if (row < 0) return;
  throw new LapidaryError({
    what: `${who} predicts values that are not finite`,
    where: `sequence ${sequence}, token ${start + row + 1}`,
    expected: 'finite logits',
    found: 'NaN or infinity',
  });
}
