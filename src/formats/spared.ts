/** Adapts a recommended recipe to a model's shapes, and warns of what a format's engines do not compute. */

import { methods } from '../methods/index.ts';
import { narrowestWindow } from '../models/windows.ts';
import type { OpenedCheckpoint } from '../open.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { compresses } from '../recipe/steps.ts';
import { expressionOf } from './check.ts';
import { formats } from './index.ts';

/** A recipe that was recommended, with a step that leaves in floats what the format has no place for. */
export async function withSpared(
  recipe: Recipe,
  original: OpenedCheckpoint,
  warn: (line: string) => void,
): Promise<Recipe> {
  const { label, spared } = formats[recipe.export.format];
  const names = recipe.reason === undefined ? [] : ((await spared?.(recipe, original)) ?? []);
  if (names.length === 0) return recipe;
  const all = [...original.model.matrices.keys()];
  const targets = [expressionOf(names, all)];
  warn(
    `${label} cannot hold ${names.length} of ${all.length} matrices in their sizes: ${targets[0]}, left in floats`,
  );
  const method = methods
    .filter(compresses)
    .find(({ shape, ...each }) => shape === 'linear' && 'convert' in each)!;
  return {
    ...recipe,
    steps: [
      ...recipe.steps,
      { method, targets, options: method.options.parse({ form: 'floats' }) as object },
    ],
  } as Recipe;
}

/** Whether the engines see what the model does not. */
export function checkWindows(
  recipe: Recipe,
  { model }: OpenedCheckpoint,
  warn: (line: string) => void,
): void {
  const { withoutWindows } = formats[recipe.export.format];
  const window = narrowestWindow(model.config);
  if (!withoutWindows || window === undefined) return;
  warn(
    `${model.source}: ${withoutWindows} sees all positions, not a window of ${window}; longer texts come out differently`,
  );
}
