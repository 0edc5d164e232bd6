/**
 * The main path: load, walk, export, verify, measure, report. Everything else in the project is a part of one of
 * these steps.
 */

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { checkFinite } from './base/finite.ts';
import type { Progress } from './base/progress.ts';
import { silent } from './base/progress.ts';
import { walk } from './calibrate/walk.ts';
import type { Evaluation } from './evaluate/evaluate.ts';
import { measureSpeed } from './evaluate/speed.ts';
import type { AccuracyChoice } from './export/accuracy.ts';
import { chooseAccuracy } from './export/accuracy.ts';
import { exportTransformers } from './export/transformers.ts';
import { verifyExport } from './export/verify.ts';
import type { SessionOptions } from './graph/session.ts';
import type { OutputFolder } from './io/output.ts';
import { createOutputFolder } from './io/output.ts';
import { costOf, measureOpened } from './measure.ts';
import type { Model } from './models/model.ts';
import type { Opened, OpenedCheckpoint, OpenedFile } from './open.ts';
import { openForCompression } from './open.ts';
import { assignment, readTexts } from './prepare.ts';
import type { Recipe } from './recipe.ts';
import { writeRecipe } from './recipe.ts';
import type { CompressReport } from './report/report.ts';
import { changesSince, describeRun, provenance } from './report/run.ts';

export interface CompressOptions {
  readonly recipe: Recipe;
  /** The folder to write; it appears when everything in it is whole. */
  readonly out: string;
  /** Replaces a folder that is not empty. */
  readonly overwrite?: boolean | undefined;
  readonly session?: Pick<SessionOptions, 'device' | 'threads'> | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly warn?: ((line: string) => void) | undefined;
}

/**
 * Compresses a model and proves what was lost.
 * @throws LapidaryError on bad input, and with exit code verification when the written file does not compute what the
 *   model in memory does; nothing is left under its final name then
 */
export async function compress(options: CompressOptions): Promise<CompressReport> {
  const { recipe, signal } = options;
  // First of all: a place that cannot be written to is found out before the work, not after it.
  const output = createOutputFolder(options.out, {
    overwrite: options.overwrite ?? false,
    reads: [recipe.model, recipe.calibration.data, recipe.evaluation.data],
  });
  try {
    const report = await fill(output, options);
    signal?.throwIfAborted();
    output.commit();
    return report;
  } finally {
    output.abandon();
  }
}

/** Everything between an empty folder and a whole one. */
async function fill(output: OutputFolder, options: CompressOptions): Promise<CompressReport> {
  const { recipe, session = {}, progress = silent, signal } = options;
  const clock = stopwatch();
  const notes: string[] = [];
  const note = (line: string) => void notes.push(line);
  const original = await openForCompression(recipe.model, { ...options, revision: recipe.revision });
  for (const [name, tensor] of original.checkpoint.tensors) checkFinite(name, tensor, original.model.source);
  const texts = await readTexts(recipe, original, note);
  clock.lap('load');

  const walked = await walk(original.model, texts.calibration, {
    ...session,
    assign: assignment(recipe),
    // Errors are then those of outputs for methods that need no data themselves.
    collect: texts.calibration.length > 0 ? 'gram' : 'none',
    progress,
    signal,
  });
  clock.lap('compress');

  // Beside the result: a disk that takes this one takes those that are measured and thrown away, and abandoning removes both.
  const scratch = join(output.staging, '.scratch');
  try {
    const context: Context = { options, original, walked: walked.model, texts, scratch };
    const chosen = await accuracyOf(context);
    const [file] = exportTransformers(walked.model, output.staging, {
      files: [{ activations: recipe.export.activations, accuracyLevel: chosen.level }],
    });
    const path = join(output.staging, file.path);
    progress({ phase: 'verify', done: 0, total: 1 });
    const verification = await verifyExport(path, walked.model, texts.verification, {
      ...session,
      ...file.options,
    });
    clock.lap('export and verify');

    const measures = await measureBoth(context, exported(original, path), chosen.evaluation);
    clock.lap('measure');
    const made = provenance(original, recipe);
    for (const change of changesSince(recipe.made, made)) note(change);
    const complete: Recipe = {
      ...recipe,
      export: { ...recipe.export, accuracyLevel: chosen.level },
      made,
    };
    const report: CompressReport = {
      model: original.name,
      modelType: original.model.config.modelType,
      out: options.out,
      recipe: complete,
      ...measures,
      file,
      verification,
      accuracyLevels: chosen.levels,
      layers: walked.layers,
      notes,
      seconds: clock.laps(),
    };
    output.write('recipe.yaml', new TextEncoder().encode(writeRecipe(complete)));
    output.write('README.md', new TextEncoder().encode(describeRun(report, texts)));
    return report;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

interface Context {
  readonly options: CompressOptions;
  readonly original: OpenedCheckpoint;
  readonly walked: Model;
  readonly texts: Awaited<ReturnType<typeof readTexts>>;
  readonly scratch: string;
}

/** The same model as its users run it. */
const exported = ({ name, tokenizer, context }: OpenedCheckpoint, file: string): OpenedFile => ({
  name,
  tokenizer,
  context,
  file,
});

async function accuracyOf(context: Context): Promise<AccuracyChoice> {
  const { options, original, walked, texts, scratch } = context;
  const { accuracyLevel, activations } = options.recipe.export;
  if (accuracyLevel !== 'auto') return { level: accuracyLevel };
  if (activations === 'float16' || !texts.evaluation) return { level: 0 };
  return chooseAccuracy(walked, scratch, (file, level) => {
    const phase = `evaluate with ${level === 0 ? 'float' : 'integer'} activations`;
    return evaluateText(context, exported(original, file), original, phase);
  });
}

/** What a model loses on the evaluation text, against `original` where it is given. */
function evaluateText(
  { options, texts }: Context,
  opened: Opened,
  original: OpenedCheckpoint | undefined,
  phase: string,
): Promise<Evaluation> {
  const { progress = silent, recipe } = options;
  return measureOpened(opened, original, texts.evaluation!, {
    ...options,
    seed: recipe.seed,
    progress: (event) => progress({ ...event, phase }),
  });
}

async function measureBoth(
  context: Context,
  opened: OpenedFile,
  known: Evaluation | undefined,
): Promise<Pick<CompressReport, 'original' | 'compressed'>> {
  const { options, original, texts, scratch } = context;
  const { session = {}, progress = silent, recipe, signal } = options;
  const text = texts.evaluation;
  const loss = known ?? (text && (await evaluateText(context, opened, original, 'evaluate')));
  const before = text && (await evaluateText(context, original, undefined, 'evaluate the original'));
  progress({ phase: 'measure speed', done: 0, total: 2 });
  // The original as an engine would run it: the same graph with its own weights.
  const [plain] = exportTransformers(original.model, join(scratch, 'original'), {
    files: [{ activations: recipe.export.activations }],
  });
  const speedOptions = {
    ...session,
    signal,
    prompt: Math.min(128, Math.floor(original.context / 2)),
    tokens: 32,
  };
  const speedBefore = await measureSpeed(join(scratch, 'original', plain.path), speedOptions);
  progress({ phase: 'measure speed', done: 1, total: 2 });
  const speedAfter = await measureSpeed(opened.file, speedOptions);
  return {
    original: { ...costOf(original), ...before, speed: speedBefore },
    compressed: { ...costOf(opened), ...loss, speed: speedAfter },
  };
}

function stopwatch() {
  const seconds: Record<string, number> = {};
  let last = performance.now();
  return {
    lap(phase: string) {
      const now = performance.now();
      seconds[phase] = (now - last) / 1000;
      last = now;
    },
    laps: () => seconds,
  };
}
