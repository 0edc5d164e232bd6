/** What does not fit a format is found out before the work. */

import { LapidaryError } from '../base/errors.ts';
import { openSampler } from '../calibrate/noise.ts';
import type { Target } from '../calibrate/targets.ts';
import { keptOf, targetsOf } from '../calibrate/targets.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { OpenedCheckpoint } from '../open.ts';
import { assignment } from '../prepare.ts';
import type { Recipe } from '../recipe.ts';
import type { Format } from './format.ts';

/**
 * Rows of noise, compressed as each kind of matrix would be.
 * @param fits throws a LapidaryError on what the format does not hold; of the encoding only what does not depend on the
 *   number of its rows, or on its columns but for their remainder in 256, is as it will be
 * @param holds the same of matrices whose values are kept, as they will be stored
 * @throws that error, naming the matrix and the method
 */
export async function checkSteps(
  recipe: Recipe,
  { model }: OpenedCheckpoint,
  fits: (encoding: Encoding, target: Target) => void,
  holds: Format['holds'],
): Promise<void> {
  const assign = assignment(recipe, model);
  const sampleOf = openSampler();
  for (const target of targetsOf(model)) {
    const assigned = assign(target);
    if (!assigned) continue;
    const kept = keptOf(assigned, model.matrices.get(target.name)!);
    const encoding = kept ?? (await sampleOf(assigned, target.shape[1]));
    try {
      if (kept) holds(kept, target, recipe);
      else fits(encoding, target);
    } catch (error) {
      if (!(error instanceof LapidaryError)) throw error;
      throw new LapidaryError({
        ...error.problem,
        where: `${target.name}, compressed by ${assigned.method.name}`,
      });
    }
  }
}
