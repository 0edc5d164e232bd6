/**
 * The main path: load, walk, export, verify, measure, report. Everything else in the project is a part of one of
 * these steps.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkFinite } from './base/finite.ts';
import type { Progress } from './base/progress.ts';
import { silent } from './base/progress.ts';
import { walk } from './calibrate/walk.ts';
import type { Evaluation } from './evaluate/evaluate.ts';
import { measureSpeed } from './evaluate/speed.ts';
import type { ExportOptions } from './export/graph.ts';
import { exportTransformers } from './export/transformers.ts';
import { verifyExport } from './export/verify.ts';
import type { SessionOptions } from './graph/session.ts';
import { createOutputFolder } from './io/output.ts';
import { costOf, measureOpened } from './measure.ts';
import type { Model } from './models/model.ts';
import type { Opened, OpenedCheckpoint } from './open.ts';
import { openForCompression } from './open.ts';
import { assignment, readTexts } from './prepare.ts';
import type { Recipe } from './recipe.ts';
import { writeRecipe } from './recipe.ts';
import type { CompressReport } from './report/report.ts';
import { describeRun, provenance } from './report/run.ts';

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

  const output = createOutputFolder(options.out, { overwrite: options.overwrite ?? false });
  const scratch = mkdtempSync(join(tmpdir(), 'lapidary-'));
  try {
    const context: Context = { options, original, walked: walked.model, texts, scratch };
    const chosen = await chooseAccuracy(context);
    const [file] = exportTransformers(walked.model, output.staging, {
      files: [exportOptions(recipe, chosen.level)],
    });
    const path = join(output.staging, file!.path);
    progress({ phase: 'verify', done: 0, total: 1 });
    const verification = await verifyExport(path, walked.model, texts.verification, {
      ...session,
      ...file!.options,
    });
    clock.lap('export and verify');

    const opened: Opened = {
      name: original.name,
      file: path,
      tokenizer: original.tokenizer,
      context: original.context,
    };
    const measures = await measureBoth(context, opened, chosen.evaluation);
    clock.lap('measure');
    const complete: Recipe = {
      ...recipe,
      export: { ...recipe.export, accuracyLevel: chosen.level },
      made: provenance(original, recipe),
    };
    const report: CompressReport = {
      model: original.name,
      modelType: original.model.config.modelType,
      out: options.out,
      recipe: complete,
      ...measures,
      file: file!,
      verification,
      accuracyLevels: chosen.levels,
      layers: walked.layers,
      notes,
      seconds: clock.laps(),
    };
    output.write('recipe.yaml', new TextEncoder().encode(writeRecipe(complete)));
    output.write('README.md', new TextEncoder().encode(describeRun(report, texts)));
    signal?.throwIfAborted();
    output.commit();
    return report;
  } finally {
    output.abandon();
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

function exportOptions({ export: { activations } }: Recipe, accuracyLevel: 0 | 4): ExportOptions {
  return { activations, accuracyLevel };
}

interface Choice {
  readonly level: 0 | 4;
  readonly levels?: Readonly<Record<0 | 4, number>>;
  /** Of the chosen level. */
  readonly evaluation?: Evaluation;
}

/** Integer activations are taken where they cost next to nothing: this factor of divergence, or these nats. */
const worthwhile = { factor: 1.1, nats: 0.002 };

/**
 * MatMulNBits multiplies float or 8-bit integer activations on CPUs. The latter are up to ten times as fast (2 and 8
 * bits have no fast float kernel) and flip near-ties on models with massive activations (onnxruntime#29849). So both
 * are written and measured. Speed has no say: the same job must give the same bytes.
 */
async function chooseAccuracy(context: Context): Promise<Choice> {
  const { recipe } = context.options;
  const asked = recipe.export.accuracyLevel;
  const quantized = [...context.walked.matrices.values()].some(({ bits }) => bits < 16);
  if (asked !== 'auto') return { level: asked };
  if (!quantized || recipe.export.activations === 'float16' || !context.texts.evaluation) return { level: 0 };
  const evaluations = new Map<0 | 4, Evaluation>();
  for (const level of [0, 4] as const) {
    const folder = join(context.scratch, `accuracy-${level}`);
    const [file] = exportTransformers(context.walked, folder, { files: [exportOptions(recipe, level)] });
    evaluations.set(
      level,
      await lossOf(context, { ...context.original, model: undefined, file: join(folder, file!.path) }),
    );
    rmSync(folder, { recursive: true });
  }
  const levels = { 0: evaluations.get(0)!.kl!.mean, 4: evaluations.get(4)!.kl!.mean };
  const level = levels[4] <= Math.max(worthwhile.factor * levels[0], levels[0] + worthwhile.nats) ? 4 : 0;
  return { level, levels, evaluation: evaluations.get(level)! };
}

function lossOf({ options, original, texts }: Context, opened: Opened): Promise<Evaluation> {
  return measureOpened(opened, original, texts.evaluation!, { ...options, seed: options.recipe.seed });
}

async function measureBoth(
  context: Context,
  opened: Opened & { readonly file: string },
  known: Evaluation | undefined,
): Promise<Pick<CompressReport, 'original' | 'compressed'>> {
  const { options, original, texts, scratch } = context;
  const { session = {}, progress = silent, recipe, signal } = options;
  const loss = known ?? (texts.evaluation && (await lossOf(context, opened)));
  const before =
    texts.evaluation &&
    (await measureOpened(original, undefined, texts.evaluation, { ...options, seed: recipe.seed }));
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
  const speedBefore = await measureSpeed(join(scratch, 'original', plain!.path), speedOptions);
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
