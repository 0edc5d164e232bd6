/**
 * A recipe's steps applied to a model, in stages: rewrites and trainings of the whole model, and walks over its blocks.
 * Each sees what those before it have left.
 */

import type { Progress } from '../base/progress.ts';
import { rounded } from '../calibrate/compress.ts';
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
import type { Gradients } from '../contract/gradients.ts';
import type { Model } from '../models/model.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Stage } from '../recipe/stages.ts';
import { stagesOf } from '../recipe/stages.ts';
import { contextOf, remembering } from './context.ts';
import type { Texts } from './texts.ts';
import { asksForRanking, assignment, blockRewrites, blockTrainings, rankingOf } from './assignment.ts';
import { needsText } from './texts.ts';
import type { Encoded } from './encoded.ts';
import { checkHandedOn, checkRewrite, checkWalk, isEncoded } from './encoded.ts';
import { onlyOnce } from './rewritten.ts';
import type { Rows } from './rows.ts';
import { openRows } from './rows.ts';
import { sameWords } from './words.ts';

export interface ApplyOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  readonly journal?: Journal | undefined;
  readonly resumed?: ((share: number) => void) | undefined;
  /** Of layers' inputs, where an importance matrix has them. */
  readonly squares?: WalkOptions['squares'];
  /**
   * Calibration text in the ids of a model whose vocabulary a step has changed.
   * Without it such a step ends in an error where another one needs text.
   */
  readonly reread?: ((model: Model) => Promise<Texts['calibration']>) | undefined;
  /** Told of the model behind each step that changes its structure: throws on what cannot be written. */
  readonly check?: ((model: Model) => void) | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

const errorSequences = 2;

/** What the stages have in common. */
interface Applying {
  readonly original: Model;
  readonly recipe: Recipe;
  readonly options: ApplyOptions;
}

/** The compressed model, with a row for each matrix as the walks left it. */
export async function applyRecipe(
  original: Model,
  recipe: Recipe,
  texts: Pick<Texts, 'calibration'>,
  options: ApplyOptions,
): Promise<Pick<Walked, 'model' | 'layers'>> {
  const applying: Applying = { original, recipe, options };
  const rows = openRows();
  const stages = stagesOf(recipe.steps);
  const walks = stages.filter(({ kind }) => kind === 'walk');
  let [model, sequences] = [original, texts.calibration];
  for (const [index, stage] of stages.entries()) {
    if (stage.kind === 'rewrite') {
      const before = model;
      checkRewrite(stage.method, encodedBy(rows, model));
      model = await rewritten(applying, stage, model, { sequences, unit: `rewrite-${index}` });
      checkHandedOn(stage.method.name, before, model);
      rows.follow(before, model);
      if (stage.method.changes === 'structure') options.check?.(model);
      if (!sameWords(before, model) && sequences.length > 0)
        sequences = (await options.reread?.(model)) ?? [];
    } else if (stage.kind === 'training') {
      model = await trained(applying, stage, model, { sequences, unit: `training-${index}` });
    } else {
      const place = walks.indexOf(stage);
      const part = { ...applying, options: partOf(options, place, walks.length) };
      const walked = await walkedThrough(part, stage, model, {
        calibration: sequences,
        encoded: encodedBy(rows, model),
      });
      rows.add(walked);
      model = walked.model;
    }
  }
  return { model, layers: rows.all() };
}

/** What walks before have encoded. */
const encodedBy = (rows: Rows, { matrices }: Model): Encoded =>
  new Map(
    rows.all().flatMap(({ name, method }) => {
      const encoding = matrices.get(name);
      return encoding && isEncoded(encoding) ? [[name, method]] : [];
    }),
  );

/** Units of the journal have names of their own in each walk, and what was done before is a share of all. */
function partOf(options: ApplyOptions, place: number, of: number): ApplyOptions {
  const { journal, resumed } = options;
  if (of === 1) return options;
  const name = (unit: string) => `walk-${place}-${unit}`;
  return {
    ...options,
    journal: journal && {
      ...journal,
      size: journal.size,
      read: (unit) => journal.read(name(unit)),
      write: (unit, entry) => journal.write(name(unit), entry),
    },
    // Said once: of the walk that is not done.
    resumed: (share) => {
      if (share < 1 || place === of - 1) resumed?.((place + share) / of);
    },
  };
}

async function walkedThrough(
  { recipe, options: { journal, squares, progress, signal, resumed, device, threads } }: Applying,
  stage: Stage & { readonly kind: 'walk' },
  model: Model,
  { calibration, encoded }: Pick<Texts, 'calibration'> & { readonly encoded: Encoded },
): Promise<Walked> {
  const session = { device, threads };
  const own = { ...recipe, steps: stage.steps };
  const [rewrites, trainings] = [blockRewrites(own), blockTrainings(own)];
  const { gradients, ranking } = asksForRanking(own)
    ? await ranked(model, own, calibration, {
        ...session,
        progress,
        signal,
        metrics: askForMetrics(trainings),
      })
    : {};
  const assign = assignment(own, model, ranking);
  checkWalk(stage, { assign, targets: targetsOf(model) }, encoded);
  // Where no method asks for text, a little tells the errors of outputs.
  const fitted = needsText(recipe);
  const sequences = fitted ? calibration : calibration.slice(0, errorSequences);
  return walk(model, sequences, {
    ...session,
    assign,
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
}

/**
 * Its matrices by what rounding costs them, and the gradients of predictions that tell it.
 * @param options.metrics whether the walk will ask for those of what blocks give, too
 */
async function ranked(
  model: Model,
  recipe: Recipe,
  calibration: Texts['calibration'],
  { metrics, ...options }: ApplyOptions & { readonly metrics: boolean },
): Promise<{ readonly gradients: Gradients | undefined; readonly ranking: Ranking }> {
  const asked = { names: everyLayer(model), metrics };
  const gradients =
    calibration.length > 0
      ? await predictionGradients(model, calibration, asked, { ...options, seed: recipe.seed })
      : undefined;
  const ranking = await rankingOf(recipe, model, calibration, {
    ...options,
    importance: gradients?.importance,
  });
  return { gradients, ranking };
}

/** What a stage over the whole model works on. */
interface StageWork {
  readonly sequences: Texts['calibration'];
  /** Its name in the journal. */
  readonly unit: string;
}

/** As a rewrite of the whole of it leaves it. */
async function rewritten(
  applying: Applying,
  { method, options, next }: Stage & { readonly kind: 'rewrite' },
  model: Model,
  { sequences, unit }: StageWork,
): Promise<Model> {
  // What is to come is for the model as it is now, unless that will be another.
  const assign = method.changes === 'weights' ? assignment({ steps: next }, model) : () => undefined;
  const planned = targetsOf(model).flatMap((target) => {
    const assigned = assign(target);
    return assigned ? [{ ...target, ...assigned }] : [];
  });
  applying.options.progress?.({ phase: 'rewrite', done: 0, total: 1, detail: method.name });
  const { journal } = applying.options;
  const context = contextOf(model, sequences, {
    ...applying.options,
    seed: applying.recipe.seed,
    rounded: rounded(planned),
    remember: remembering(journal, unit),
  });
  const repeats = method.repeats === true;
  return onlyOnce({ journal, unit, repeats }, model, () => method.rewrite(model, options, context));
}

/** As training of the whole of it leaves it. */
async function trained(
  applying: Applying,
  { method, options }: Stage & { readonly kind: 'training' },
  model: Model,
  { sequences, unit }: StageWork,
): Promise<Model> {
  const {
    original,
    options: { journal },
  } = applying;
  const known = journal && readUnit(journal, unit, [])?.changes;
  const context = contextOf(model, sequences, {
    ...applying.options,
    seed: applying.recipe.seed,
    remember: remembering(journal, unit),
  });
  const changes = known ?? (await method.train(model, original, options, context));
  if (journal && !known) await writeUnit(journal, unit, { done: [], changes });
  return {
    ...model,
    matrices: new Map([...model.matrices, ...changes.matrices]),
    vectors: new Map([...model.vectors, ...changes.vectors]),
  };
}
