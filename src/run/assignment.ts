/** Which method is for which matrix of the model at hand, and what else a recipe has a walk do to each block. */

import type { Ranking } from '../calibrate/select.ts';
import { asksForSensitivity, selector } from '../calibrate/select.ts';
import type { SensitivityOptions } from '../calibrate/sensitivity.ts';
import { rankBySensitivity } from '../calibrate/sensitivity.ts';
import type { Assignment, Target as Matrix } from '../calibrate/targets.ts';
import type { RewriteStep as WalkRewrite, TrainingStep } from '../calibrate/planned.ts';
import type { Model } from '../models/model.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Step } from '../recipe/steps.ts';
import { isCompression } from '../recipe/steps.ts';

/**
 * The last step that names a matrix decides.
 * @param ranking where a step asks for the most sensitive matrices; without it that step is for all blocks
 * @throws LapidaryError (usage) where a step's targets mean no matrix
 */
export function assignment(
  recipe: Pick<Recipe, 'steps'>,
  model: Model,
  ranking?: Ranking,
): (matrix: Matrix) => Assignment | undefined {
  const steps = recipe.steps.filter(isCompression).map(({ targets, ...step }) => ({
    ...step,
    selects: targets.map((target) => selector(target, model, ranking)),
  }));
  return (matrix) => {
    const step = steps.findLast(({ selects }) => selects.some((selects) => selects(matrix)));
    if (!step) return undefined;
    const { method, options } = step;
    const own = method.shape === 'linear' ? method.at?.(options, matrix.name, model.config) : undefined;
    return { method, options: own ?? options };
  };
}

const isSensitive = (step: Step) => isCompression(step) && step.targets.some(asksForSensitivity);

/** Whether a step is for the matrices that rounding hurts most. */
export const asksForRanking = ({ steps }: Recipe): boolean => steps.some(isSensitive);

/** The matrices of its blocks that rounding hurts most, first. */
export async function rankingOf(
  recipe: Recipe,
  model: Model,
  sequences: readonly Int32Array[],
  options: Omit<SensitivityOptions, 'assign'>,
): Promise<Ranking> {
  // As they would be without what the ranking decides.
  const others = { ...recipe, steps: recipe.steps.filter((step) => !isSensitive(step)) };
  return rankBySensitivity(model, sequences, { ...options, assign: assignment(others, model) });
}

/** The rewrites that look at a block at a time, in the recipe's order. */
export const blockRewrites = ({ steps }: Recipe): readonly WalkRewrite[] =>
  steps.flatMap(({ method, options }) =>
    method.shape === 'rewrite' && method.scope === 'block' ? [{ method, options }] : [],
  );

/** What trains a block's matrices once they are compressed, in the recipe's order. */
export const blockTrainings = ({ steps }: Recipe): readonly TrainingStep[] =>
  steps.flatMap(({ method, options }) =>
    method.shape === 'train' && method.scope === 'compressed block' ? [{ method, options }] : [],
  );
