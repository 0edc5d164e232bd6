/** What stands in a folder that a run is to write: its own earlier result, which it may replace, or something else. */

import { dirname, join } from 'node:path';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { canonical, isObject } from '../base/json.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { checkRecipe, plainRecipe, recipeFile } from '../recipe/recipe.ts';
import { isCompression, methodsOf } from '../recipe/steps.ts';
import { recipeName, recipesIn } from '../report/files.ts';
import type { TypedRecipe } from './asked.ts';

/** Hashes of what went in. */
const inputs: Readonly<Record<string, string>> = {
  modelSha256: "another model's result",
  calibrationSha256: 'a result with another calibration text',
  evaluationSha256: 'a result measured on another text',
  imatrixSha256: 'a result with another importance matrix',
};

/**
 * @param runs what is to be written there; each has its type where there are several
 * @param made versions and hashes of the run that is to write there
 * @returns whether what is there is the result of the same recipes from the same model and texts; false where it is no result
 * @throws LapidaryError (usage) where it is another's, saying whose
 */
export function mayReplace(
  folder: string,
  runs: readonly TypedRecipe[],
  made: Readonly<Record<string, unknown>>,
): boolean {
  const held = recipesIn(folder);
  const names = runs.map(({ type }) => join(folder, recipeName(type))).sort();
  if (held.length === 0) return false;
  if (held.join() !== names.join()) {
    if (!held.every(isResult)) return false;
    throw other(folder, `a result of ${held.length === 1 ? 'one type' : `${held.length} types`}`);
  }
  return runs.every(({ type, recipe }) => isSame(join(folder, recipeName(type)), recipe, made));
}

/** Not somebody's recipe in somebody's folder: a run leaves what it was made with. */
const isResult = (path: string): boolean => inputIn(path)?.made !== undefined;

function inputIn(path: string): Record<string, unknown> | undefined {
  try {
    return recipeFile(path);
  } catch {
    return undefined;
  }
}

function isSame(path: string, recipe: Recipe, made: Readonly<Record<string, unknown>>): boolean {
  const folder = dirname(path);
  const input = inputIn(path);
  if (input?.made === undefined) return false;
  const held = parsed(input);
  if (!held) throw other(folder, 'a result of another version');
  const described = ` (${shortly(held)})`;
  const changed = differences(decisive(held), decisive(recipe, held));
  if (changed.length > 0)
    throw other(
      folder,
      `another recipe's result${described}`,
      `other there: ${changed.slice(0, 4).join(', ')}`,
    );
  for (const [name, whose] of Object.entries(inputs))
    if (held.made?.[name] !== made[name]) throw other(folder, `${whose}${described}`);
  return true;
}

/** Undefined where this version does not read it. */
function parsed(input: Record<string, unknown>): Recipe | undefined {
  try {
    return checkRecipe(input);
  } catch {
    return undefined;
  }
}

/**
 * All of a recipe that decides the bytes, but for files and versions, whose hashes say it better.
 * @param asked whose result it may be: what "auto" came to there, it comes to again
 */
function decisive(recipe: Recipe, asked?: Recipe): object {
  const { accuracyLevel } = recipe.export;
  const level = accuracyLevel === 'auto' ? (asked ?? recipe).export.accuracyLevel : accuracyLevel;
  return {
    ...plainRecipe(recipe),
    made: undefined,
    reason: undefined,
    model: undefined,
    revision: undefined,
    calibration: { ...recipe.calibration, data: undefined, imatrix: undefined },
    evaluation: { ...recipe.evaluation, data: undefined },
    export: { ...recipe.export, accuracyLevel: level },
  };
}

/** Paths at which two recipes say different things: "calibration.length", "steps". */
function differences(a: object, b: object): string[] {
  const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])];
  return keys.flatMap((key) => {
    const [one, another] = [a, b].map((recipe) => (recipe as Readonly<Record<string, unknown>>)[key]);
    if (canonical(one) === canonical(another)) return [];
    if (!isObject(one) || !isObject(another)) return [key];
    return differences(one, another).map((inner) => `${key}.${inner}`);
  });
}

/** "mlx, gptq+block-ap 4 bits" */
export function shortly({ steps, export: { format } }: Recipe): string {
  const options = steps.find(isCompression)?.options ?? {};
  const size = options.type ?? (options.bits === undefined ? undefined : `${options.bits} bits`);
  const methods = methodsOf(steps).join('+');
  return `${format}, ${[methods, size].filter((part) => part !== undefined).join(' ')}`;
}

function other(where: string, what: string, found?: string): LapidaryError {
  return new LapidaryError(
    {
      what: `the output folder holds ${what}`,
      where,
      found,
      fix: 'say --overwrite to replace it, or write to another folder: --out NAME',
    },
    ExitCode.usage,
  );
}
