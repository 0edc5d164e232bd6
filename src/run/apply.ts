/**
 * A recipe's steps applied to a model: rewrites of the whole model, the walk over its blocks, training at the end. Each
 * sees what those before it have left.
 */

import type { Progress } from '../base/progress.ts';
import { rounded } from '../calibrate/compress.ts';
import type { Gradients } from '../calibrate/importance.ts';
import { everyLayer, predictionGradients } from '../calibrate/importance.ts';
import type { WalkOptions } from '../calibrate/planned.ts';
import { askForMetrics } from '../calibrate/planned.ts';
import { readUnit, writeUnit } from '../calibrate/resume.ts';
import type { Ranking } from '../calibrate/select.ts';
import { targetsOf } from '../calibrate/targets.ts';
import type { Walked } from '../calibrate/walk.ts';
import { walk } from '../calibrate/walk.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Journal } from '../io/journal.ts';
import type { Model } from '../models/model.ts';
import type { Texts } from './prepare.ts';
import {
  asksForRanking,
  assignment,
  blockRewrites,
  blockTrainings,
  needsText,
  rankingOf,
} from './prepare.ts';
import type { Recipe } from '../recipe/recipe.ts';

export interface ApplyOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  readonly journal?: Journal | undefined;
  readonly resumed?: ((share: number) => void) | undefined;
  /** Of layers' inputs, where an importance matrix has them. */
  readonly squares?: WalkOptions['squares'];
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

const errorSequences = 2;

/** The compressed model, with a row for each matrix as the walk left it. */
export async function applyRecipe(
  original: Model,
  recipe: Recipe,
  texts: Pick<Texts, 'calibration'>,
  options: ApplyOptions,
): Promise<Walked> {
  const { journal, squares, progress, signal, resumed, ...session } = options;
  const model = await rewritten(original, recipe, texts, options);
  const trainings = blockTrainings(recipe);
  const { gradients, ranking } = asksForRanking(recipe)
    ? await ranked(model, recipe, texts, { ...options, metrics: askForMetrics(trainings) })
    : {};
  const rewrites = blockRewrites(recipe);
  // Where no method asks for text, a little tells the errors of outputs.
  const fitted = needsText(recipe);
  const sequences = fitted ? texts.calibration : texts.calibration.slice(0, errorSequences);
  const walked = await walk(model, sequences, {
    ...session,
    assign: assignment(recipe, model, ranking),
    rewrites,
    trainings,
    squares,
    seed: recipe.seed,
    resumed,
    ...gradients,
    // Errors are those of outputs for methods that need no data themselves, unless that costs a pass of its own.
    collect: sequences.length > 0 && rewrites.length === 0 ? 'gram' : 'none',
    journal,
    progress,
    signal,
  });
  return { ...walked, model: await trained(walked.model, original, recipe, texts, options) };
}

/**
 * Its matrices by what rounding costs them, and the gradients of predictions that tell it.
 * @param options.metrics whether the walk will ask for those of what blocks give, too
 */
async function ranked(
  model: Model,
  recipe: Recipe,
  { calibration }: Pick<Texts, 'calibration'>,
  { metrics, ...options }: ApplyOptions & { readonly metrics: boolean },
): Promise<{ readonly gradients: Gradients | undefined; readonly ranking: Ranking }> {
  const asked = { names: everyLayer(model), metrics };
  const gradients =
    calibration.length > 0
      ? await predictionGradients(model, calibration, asked, { ...options, seed: recipe.seed })
      : undefined;
  const ranking = await rankingOf(
    recipe,
    model,
    { calibration },
    { ...options, importance: gradients?.importance },
  );
  return { gradients, ranking };
}

/** As the rewrites of the whole of it leave it; it computes what it did. */
async function rewritten(
  original: Model,
  recipe: Recipe,
  texts: Pick<Texts, 'calibration'>,
  { device, threads, progress, signal }: ApplyOptions,
): Promise<Model> {
  let model = original;
  for (const { method, options } of recipe.steps) {
    if (method.shape !== 'rewrite' || method.scope !== 'model') continue;
    const assign = assignment(recipe, model);
    const planned = targetsOf(model).flatMap((target) => {
      const assigned = assign(target);
      return assigned ? [{ ...target, ...assigned }] : [];
    });
    progress?.({ phase: 'rewrite', done: 0, total: 1, detail: method.name });
    const context = {
      seed: recipe.seed,
      rounded: rounded(planned),
      session: { device, threads },
      progress,
      signal,
    };
    model = await method.rewrite(model, options, { sequences: texts.calibration, ...context });
  }
  return model;
}

/** As training leaves it, when all is compressed. */
async function trained(
  compressed: Model,
  teacher: Model,
  recipe: Recipe,
  texts: Pick<Texts, 'calibration'>,
  { journal, progress, signal, ...session }: ApplyOptions,
): Promise<Model> {
  let model = compressed;
  for (const [index, { method, options }] of recipe.steps.entries()) {
    if (method.shape !== 'train' || method.scope !== 'model') continue;
    const unit = `training-${index}`;
    const context = { sequences: texts.calibration, seed: recipe.seed, session, progress, signal };
    const known = journal && readUnit(journal, unit, [])?.changes;
    const changes = known ?? (await method.train(model, teacher, options, context));
    if (journal && !known) await writeUnit(journal, unit, { done: [], changes });
    model = {
      ...model,
      matrices: new Map([...model.matrices, ...changes.matrices]),
      vectors: new Map([...model.vectors, ...changes.vectors]),
    };
  }
  return model;
}
