/**
 * How sure a mean is: the percentile bootstrap over sequences (Efron, 1979). Tokens of one sequence depend on each
 * other, so that whole sequences are drawn again, not tokens.
 */

import { random } from '../base/random.ts';

export interface Interval {
  readonly low: number;
  readonly high: number;
}

export interface BootstrapOptions {
  readonly seed?: number | undefined;
  readonly resamples?: number | undefined;
  /** Share of the resampled ratios inside the interval. */
  readonly level?: number | undefined;
}

/**
 * The interval of sum(totals) / sum(counts), where sequence i has total[i] over counts[i] tokens (or characters):
 * resampled sequences keep their own weight.
 */
export function bootstrap(
  totals: ArrayLike<number>,
  counts: ArrayLike<number>,
  { seed = 0, resamples = 2000, level = 0.95 }: BootstrapOptions = {},
): Interval {
  const size = totals.length;
  const draws = random(seed);
  const ratios = new Float64Array(resamples);
  for (let resample = 0; resample < resamples; resample++) {
    let total = 0;
    let count = 0;
    for (let draw = 0; draw < size; draw++) {
      const index = draws.integer(size);
      total += totals[index];
      count += counts[index];
    }
    ratios[resample] = total / count;
  }
  ratios.sort();
  return { low: quantile(ratios, (1 - level) / 2), high: quantile(ratios, (1 + level) / 2) };
}

/** The middle of values in any order, or the mean of the two there. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return quantile(sorted, 0.5);
}

/** The value below which a share of sorted values lies, linear between neighbours. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const position = share * (sorted.length - 1);
  const below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (position - below) * (sorted[above] - sorted[below]);
}
