/** The importance matrix that a recipe names, in place of calibration text: what of it is for the model at hand. */

import { basename } from 'node:path';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { namedInGguf, squaresOf } from '../calibrate/imatrix.ts';
import { planOf } from '../calibrate/planned.ts';
import type { Imatrix } from '../io/imatrix/imatrix.ts';
import { readImatrix } from '../io/imatrix/imatrix.ts';
import type { Statistic } from '../contract/statistic.ts';
import type { Model } from '../models/model.ts';
import { assignment } from './assignment.ts';
import type { Recipe } from '../recipe/recipe.ts';

export interface Importance {
  /** By our name of the matrix; of those that the file has. */
  readonly squares: ReadonlyMap<string, Statistic>;
  /** Name of the file, without its folder. */
  readonly file: string;
  readonly imatrix: Imatrix;
}

/**
 * @param note told of weights that the file says nothing of
 * @returns undefined where the recipe names none
 * @throws LapidaryError where the file is damaged or another model's, or no method of the recipe wants it
 */
export function readImportance(
  recipe: Recipe,
  model: Model,
  note: (line: string) => void,
): Importance | undefined {
  const path = recipe.calibration.imatrix;
  if (path === undefined) return undefined;
  const rewrite = recipe.steps.find(({ method }) => method.shape === 'rewrite');
  const planned = planOf(model, { assign: assignment(recipe, model), squares: new Map() });
  const wanting = planned.filter(({ known }) => known !== undefined);
  if (rewrite || wanting.length === 0) {
    throw new LapidaryError(
      {
        what: rewrite
          ? `${rewrite.method.name} changes what layers are fed, and the importance matrix is of what they were fed before`
          : 'no method of the recipe rounds by an importance matrix',
        where: '--imatrix',
        expected: '--method ggml --fit importance, and nothing that comes before it',
        fix: 'leave --imatrix out and give --calibration, or add --format gguf --fit importance',
      },
      ExitCode.usage,
    );
  }
  const imatrix = readImatrix(path);
  const squares = squaresOf(imatrix, model, path);
  const missing = wanting.filter(({ name, place }) => place === 'block' && !squares.has(name));
  if (missing.length > 0) {
    const names = missing.map(({ name }) => namedInGguf(model, name));
    const shown =
      names.length > 8 ? `${names.slice(0, 8).join(', ')} and ${names.length - 8} more` : names.join(', ');
    note(`${basename(path)} says nothing of ${shown}: rounded without importance.`);
  }
  return { squares, file: basename(path), imatrix };
}
