/** The end of every verification: compares the logits of a written file with those of the model in memory. */

import { ExitCode, LapidaryError } from '../base/errors.ts';
import type { Model } from '../models/model.ts';
import { median } from '../evaluate/bootstrap.ts';

export interface Verification {
  /** Largest difference of a logit. */
  readonly maxDifference: number;
  /** Of the worst token: root mean square difference of its logits, in spreads. */
  readonly worst: number;
  /** The same of the median token. */
  readonly typical: number;
  /** Standard deviation of the logits in memory: what a difference is measured by. */
  readonly spread: number;
  /** What `worst` may be. */
  readonly tolerance: number;
  readonly tokens: number;
}

export interface Comparison {
  /** The file the logits were computed from. */
  readonly path: string;
  /** [tokens, vocabulary], as `expected`. */
  readonly found: Float32Array;
  readonly expected: Float32Array;
  readonly tolerance: number;
  /** What `typical` may be, where a single token may differ by much more. */
  readonly typicalTolerance?: number | undefined;
  readonly tokens: number;
  /** What to do where they differ. */
  readonly fix: string;
}

export type Limits = Pick<Comparison, 'tolerance' | 'typicalTolerance'>;

/** What products in float32 may differ by. */
export const exact = 1e-3;

/**
 * What a model's logits may differ by. Where values are rounded, a mixture may send a token to another expert that scores as
 * well: it alone, and those that see it, are computed otherwise.
 */
export function limitsOf({ config: { layers } }: Model, limits: Limits): Limits {
  const { tolerance, typicalTolerance = tolerance } = limits;
  const mixes = layers.some(({ experts }) => experts);
  return mixes && tolerance > exact ? { tolerance: elsewhere, typicalTolerance } : limits;
}

/** Of such a token, in spreads. */
const elsewhere = 2;

/** @throws LapidaryError with exit code verification where a logit is not finite or differs beyond tolerance */
export function compareLogits({
  path,
  found,
  expected,
  tolerance,
  typicalTolerance = tolerance,
  tokens,
  fix,
}: Comparison): Verification {
  const failure = (what: string, wanted: string, got: string) =>
    new LapidaryError({ what, where: path, expected: wanted, found: got, fix }, ExitCode.verification);
  if (found.length !== expected.length) {
    const [wanted, got] = [expected, found].map(({ length }) => `${length / tokens} logits a token`);
    throw failure('the written file has another vocabulary than the model', wanted, got);
  }
  const vocabulary = expected.length / tokens;
  let maxDifference = 0;
  const meanSquares: number[] = [];
  let [sum, squares] = [0, 0];
  for (let token = 0; token < tokens; token++) {
    let differences = 0;
    for (let i = token * vocabulary; i < (token + 1) * vocabulary; i++) {
      if (!Number.isFinite(found[i]) || !Number.isFinite(expected[i])) {
        const [wanted, got] = [`${expected[i]} (in memory)`, `${found[i]} (in the file)`];
        throw failure('a logit is not finite', wanted, got);
      }
      const difference = found[i] - expected[i];
      differences += difference ** 2;
      maxDifference = Math.max(maxDifference, Math.abs(difference));
      sum += expected[i];
      squares += expected[i] ** 2;
    }
    meanSquares.push(differences / vocabulary);
  }
  const spread = Math.sqrt(Math.max(0, squares / expected.length - (sum / expected.length) ** 2));
  const worst = Math.sqrt(Math.max(...meanSquares)) / spread;
  const typical = Math.sqrt(median(meanSquares)) / spread;
  const wrong = 'the written file does not compute what the model does';
  if (!(worst <= tolerance)) {
    const most = `logits of a token that differ by at most ${tolerance} of their spread, ${spread.toPrecision(3)}`;
    const much = `${worst.toPrecision(3)} of it, ${maxDifference.toPrecision(3)} at most`;
    throw failure(wrong, most, much);
  }
  if (!(typical <= typicalTolerance)) {
    const most = `logits of half of the tokens that differ by at most ${typicalTolerance} of their spread, ${spread.toPrecision(3)}`;
    throw failure(wrong, most, `${typical.toPrecision(3)} of it`);
  }
  return { maxDifference, worst, typical, spread, tolerance, tokens };
}
