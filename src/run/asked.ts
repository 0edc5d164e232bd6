/**
 * What the library's callers ask for, made into a whole recipe: model, engine and bits, as on the command line, or steps of
 * their own.
 */

import { defined } from '../base/defined.ts';
import { ExitCode, LapidaryError } from '../base/errors.ts';
import { quoted } from '../base/json.ts';
import { keptFloats, recommendedSteps } from '../formats/choose.ts';
import { destinationOf } from '../formats/engines.ts';
import type { EngineName } from '../formats/format.ts';
import { formatOf, keptFor, typesNamed } from '../formats/types.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Progress } from '../base/progress.ts';
import type { StoredGrid } from '../models/quantized/index.ts';
import { isFirstLook, isShipped, shipped, storedGrid } from '../open.ts';
import type { PlainRecipe, Recipe, RecipeInput, RecipeStep } from '../recipe/recipe.ts';
import { checkRecipe } from '../recipe/recipe.ts';
import { defaultFolder, folderOfTypes } from './default-name.ts';

/** What a recommendation hangs on; all of it may be left out. */
export interface RecommendOptions extends Pick<RecipeInput, 'model' | 'revision' | 'seed' | 'export'> {
  /** What will run the result: chooses the format, and what it is best with. */
  readonly for?: EngineName | undefined;
  /** Of a weight; 4 where the engine is not better with others. */
  readonly bits?: 2 | 3 | 4 | 8 | undefined;
  /** Of the embedding and the head; 16 keeps them, 8 where the method does not choose them itself. */
  readonly embeddingBits?: 2 | 3 | 4 | 8 | 16 | undefined;
  /** The text that methods are fitted to: its path, or a recipe's section. */
  readonly calibration?: string | RecipeInput['calibration'];
  /** The text that the loss is measured on: its path, or a recipe's section; a held-out part of the calibration text without it. */
  readonly evaluation?: string | RecipeInput['evaluation'];
  /** Told of downloads, where the model is a hub id. */
  readonly progress?: Progress | undefined;
}

/** How a run goes: nothing of this changes the bytes that are written. */
export interface RunOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  /** Replaces whatever is in the folder; without it, only what the same recipe made of the same model and texts. */
  readonly overwrite?: boolean | undefined;
  /** Whether it is measured how fast original and result run, for which the original is written, too; by default. */
  readonly speed?: boolean | undefined;
  /** Whether both answer a few prompts; by default, unless speed is not measured and the original is large. */
  readonly answers?: boolean | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly warn?: ((line: string) => void) | undefined;
  /** Told what the run is about to do: what was chosen, where it continues. */
  readonly say?: ((line: string) => void) | undefined;
}

/** A recipe, and what its file is called where several stand in one folder. */
export interface TypedRecipe {
  readonly type?: string | undefined;
  readonly recipe: Recipe;
}

/** Recipes that differ in steps and export alone, and the folder to write; it appears when everything in it is whole. */
export interface Run extends RunOptions {
  readonly recipes: readonly [TypedRecipe, ...TypedRecipe[]];
  readonly out: string;
}

interface Output {
  /** The folder to write; named by model, format, method, bits and group where it is not given, as on the command line. */
  readonly out?: string | undefined;
}

/** A recipe as `parseRecipe`, `readRecipe` and `recommend` give it. */
interface WithRecipe extends RunOptions, Output {
  readonly recipe: Recipe;
  readonly steps?: undefined;
}

/** Without a recipe or steps the recommended ones for model, engine and bits: those of the command line. */
interface Recommended extends RunOptions, Output, Omit<RecommendOptions, 'progress'> {
  readonly recipe?: undefined;
  readonly steps?: undefined;
}

/** Steps of one's own, taken as they are; `for` and `export` say what is written. */
interface WithSteps extends Omit<Recommended, 'steps' | 'bits' | 'embeddingBits'> {
  readonly steps: readonly RecipeStep[];
  readonly bits?: undefined;
  readonly embeddingBits?: undefined;
}

export type CompressOptions = WithRecipe | Recommended | WithSteps;

/** The recommended recipe for each type, which says bits and what the graph computes in. */
export interface TypesOptions extends RunOptions, Output, Omit<RecommendOptions, 'progress' | 'bits'> {
  /** Files of one folder, the default first: q4, q8, fp16 for transformers.js; Q4_K_M, Q8_0, F16 for llama.cpp. */
  readonly types: readonly string[];
}

/**
 * What the command line does where no method is named: the recipe that docs/benchmarks.md shows to lose least for its
 * bytes in what the engine runs, as far as that is known before the model is opened.
 * @returns the whole recipe, for `compress`, and why in a sentence
 * @throws LapidaryError (usage) on an engine that is not known, or does not run the format
 */
export async function recommend(
  options: RecommendOptions = {},
): Promise<{ readonly recipe: Recipe; readonly reason: string }> {
  const { steps, reason } = stepsFor(options, await storedIn(options));
  return { recipe: checkRecipe({ ...sectionsOf(options).sections, reason, steps }, 'options'), reason };
}

/** What the model is quantized to already; with an importance matrix it is compressed anew. */
async function storedIn(options: RecommendOptions): Promise<StoredGrid | undefined> {
  const { model, revision, progress } = options;
  if (sectionsOf(options).sections.calibration.imatrix !== undefined) return undefined;
  return storedGrid(model, { revision, progress });
}

/** @param own options of the method, in place of what is recommended */
function stepsFor(
  options: RecommendOptions,
  stored: StoredGrid | undefined,
  own: Readonly<Record<string, unknown>> = {},
) {
  const { model, bits, embeddingBits } = options;
  const { destination, sections } = sectionsOf(options);
  const { data, generated, imatrix } = sections.calibration;
  const asked = {
    ...destination,
    model,
    bits,
    text: data !== undefined || generated === true || isShipped(model),
    imatrix: imatrix !== undefined,
    quick: isFirstLook(model, data),
  };
  return recommendedSteps(asked, { stored, embeddingBits, options: own });
}

/** The run that is asked for. @throws LapidaryError (usage) on options that do not go together, or do not fit */
export async function runOf(options: CompressOptions): Promise<Run> {
  const { recipe: given, steps } = options;
  if (given) return withFolder(options, given);
  if (!steps) return withFolder(options, (await recommend(options)).recipe);
  for (const name of ['bits', 'embeddingBits'] as const) {
    if (options[name] === undefined) continue;
    throw new LapidaryError(
      {
        what: `${name} beside steps`,
        where: 'options',
        expected: 'steps that say themselves what they do, or bits for those that are recommended',
        fix: `leave ${name} out, and give each step its own`,
      },
      ExitCode.usage,
    );
  }
  return withFolder(options, checkRecipe({ ...sectionsOf(options).sections, steps }, 'options'));
}

/** A run with a recipe for each type. @throws LapidaryError (usage) on types that the format does not have */
export async function runOfTypes({ types, ...options }: TypesOptions): Promise<Run> {
  checkTypes(types, options);
  const { format } = destinationOf(options.for, options.export?.format, formatOf(types));
  const asked = typesNamed(types, format);
  const stored = await storedIn(options);
  const recipes = [...asked].map(([type, wanted]): TypedRecipe => {
    const { options: own, export: written } = wanted;
    const asked = { ...options, export: { ...options.export, ...written, format } };
    const { steps, reason } = own
      ? stepsFor({ ...asked, ...own } as RecommendOptions, keptFor(wanted, stored), own)
      : { steps: keptFloats, reason: undefined };
    const { sections } = sectionsOf(asked);
    return { type, recipe: checkRecipe({ ...sections, ...defined({ reason }), steps }, 'options') };
  });
  const all = recipes as [TypedRecipe, ...TypedRecipe[]];
  return { ...options, recipes: all, out: options.out ?? folderOfTypes(all[0].recipe, [...asked.keys()]) };
}

/** What TypeScript's types say, for who has none. @throws LapidaryError (usage) on other types, and on what these say themselves */
function checkTypes(types: unknown, options: object): void {
  const refused = (what: string, expected: string, found?: string) =>
    new LapidaryError({ what, where: 'options', expected, found }, ExitCode.usage);
  if (!Array.isArray(types) || !types.every((type) => typeof type === 'string'))
    throw refused('types do not fit', "a list of names: ['q4', 'q8', 'fp16']", quoted(types));
  for (const name of ['bits', 'steps', 'recipe']) {
    if ((options as Readonly<Record<string, unknown>>)[name] === undefined) continue;
    throw refused(
      `${name} beside types`,
      'types, which say this themselves, or a run of `compress` for each',
    );
  }
}

function withFolder({ out, ...options }: CompressOptions, recipe: Recipe): Run {
  return { ...options, recipes: [{ recipe }], out: out ?? defaultFolder(recipe) };
}

type Sections = Omit<PlainRecipe, 'steps' | 'calibration'> & {
  readonly calibration: NonNullable<PlainRecipe['calibration']>;
};

/** Where the result will run, and all of a recipe but its steps. */
function sectionsOf(options: Omit<RecommendOptions, 'bits' | 'embeddingBits'>) {
  const { model, revision, seed, calibration = {}, evaluation = {}, export: written } = options;
  const given = typeof calibration === 'string' ? { data: calibration } : calibration;
  const destination = destinationOf(options.for, written?.format);
  const { format, engine } = destination;
  const sections: Sections = {
    ...defined({ model, revision, seed }),
    calibration: { ...(isFirstLook(model, given.data) ? { sequences: shipped.sequences } : {}), ...given },
    evaluation: typeof evaluation === 'string' ? { data: evaluation } : evaluation,
    export: { ...engine.export, ...defined(written ?? {}), format },
  };
  return { destination, sections };
}
