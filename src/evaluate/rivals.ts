/**
 * Several ways to run one model, of which the first part of the text decides; the rest of the text sees only the one that
 * was taken. What the original makes of the part it makes once.
 */

import type { Collected } from './collect.ts';
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
 * One rival is open at a time, so that memory holds one; the one that is taken is opened again where another followed it.
 * @throws LapidaryError as `evaluate`
 */
export async function evaluateRivals(
  rivals: readonly (() => Promise<Scorer>)[],
  options: RivalsOptions,
): Promise<Taken> {
  const { sequences, choose, progress } = options;
  const cut = partOf(sequences);
  const parts = [sequences.slice(0, cut), sequences.slice(cut)] as const;
  const tokens = predictedTokens(parts[0]);
  // The whole text, of whose part each rival takes a turn.
  const total = predictedTokens(sequences) + (rivals.length - 1) * tokens;
  const found: Collected[] = [];
  let open: Scorer | undefined;
  const collected = async (sequences: readonly Int32Array[], before: number) => {
    const [one] = await collect([open!], {
      ...options,
      sequences,
      progress: (event) => progress?.({ ...event, done: before + event.done, total }),
    });
    return one!;
  };
  try {
    for (const rival of rivals) {
      await open?.close();
      open = await rival();
      checkVocabularies(open, options.against);
      found.push(await collected(parts[0], found.length * tokens));
    }
    const kl = found.map(({ compared }) => meanOf(compared!.kl));
    const index = choose(kl);
    if (parts[1].length === 0) return { index, kl, evaluation: evaluationOf(found[index]!, options) };
    if (index < rivals.length - 1) {
      await open!.close();
      open = await rivals[index]!();
    }
    const rest = await collected(parts[1], rivals.length * tokens);
    return { index, kl, evaluation: evaluationOf(joined(found[index]!, rest), options) };
  } finally {
    await open?.close();
  }
}

/** Sequences that decide: the first ones. */
function partOf(sequences: readonly Int32Array[]): number {
  const enough = Math.max(part.share * predictedTokens(sequences), part.tokens);
  let [count, tokens] = [0, 0];
  while (count < sequences.length && tokens < enough) tokens += sequences[count++].length - 1;
  return count;
}

const meanOf = (values: Float32Array): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
