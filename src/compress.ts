/**
 * The main path: prepare, plan, apply the recipe, write, verify, measure, report. Everything else in the project is a part
 * of one of these steps.
 */

import { cpus } from 'node:os';
import { ExitCode, LapidaryError } from './base/errors.ts';
import { checkHeld } from './formats/holds.ts';
import { formats } from './formats/index.ts';
import type { Journal } from './io/journal.ts';
import { openJournal, partOf } from './io/journal.ts';
import type { OutputFolder } from './io/output.ts';
import { createOutputFolder } from './io/output.ts';
import type { DryRun } from './plan/dry-run.ts';
import { dryRun } from './plan/dry-run.ts';
import type { Plan } from './plan/plan.ts';
import { checkDisk, memoryWarning, planRun } from './plan/plan.ts';
import { plainRecipe } from './recipe/recipe.ts';
import type { CompressReport } from './report/report.ts';
import { applyRecipe } from './run/apply.ts';
import type { CompressOptions, Run, TypesOptions } from './run/asked.ts';
import { runOf, runOfTypes } from './run/asked.ts';
import type { Finished } from './run/finish.ts';
import { finish, writeReports } from './run/finish.ts';
import { mayReplace } from './run/held.ts';
import type { Begun, Prepared } from './run/prepared.ts';
import { foresee, inputsOf, prepare } from './run/prepared.ts';
import { openWords } from './run/words.ts';

/**
 * Compresses a model and proves what was lost: by a recipe, by steps, or by what is recommended for an engine and bits. A
 * run that ends early keeps a journal beside `out`: the same call continues from there, to the same bytes.
 * @returns what was saved and lost, and `out`, the folder that was written
 * @throws LapidaryError on bad input, and with exit code verification when the written file does not compute what the
 *   model in memory does; nothing is left under its final name then
 */
export async function compress(options: CompressOptions): Promise<CompressReport> {
  const [report] = await compressAll(await runOf(options));
  return report!;
}

/**
 * The same for several types of one model, side by side in one folder, as engines load them by name: `dtype: 'q8'`. The
 * original and the text are read once.
 * @returns what was saved and lost by each, in the order of `types`
 * @throws LapidaryError as `compress` does, and on types that the format does not have
 */
export async function compressTypes(options: TypesOptions): Promise<readonly CompressReport[]> {
  return compressAll(await runOfTypes(options));
}

/** A file for each recipe of a run, in one folder. */
export async function compressAll(run: Run): Promise<readonly CompressReport[]> {
  let output: OutputFolder | undefined;
  let journal: Journal | undefined;
  let runs: readonly Prepared[] = [];
  try {
    runs = await prepare(run, (begun) => {
      output = openOutput(begun);
    });
    journal = journalOf(runs);
    const reports = await fill(runs, output!, journal);
    run.signal?.throwIfAborted();
    output!.commit();
    journal.remove();
    return reports;
  } catch (error) {
    if (journal) leave(runs[0]!, journal, error);
    throw error;
  } finally {
    output?.abandon();
  }
}

/** What the same `compress` will need, without doing it: bytes of memory by phase, bytes on the disk. */
export async function planOf(options: CompressOptions): Promise<Plan> {
  const [plan] = await plansOf(await runOf(options));
  return plan!;
}

/** What the same `compress` would do to which matrix, and what the result will take; reads no weights. */
export async function dryRunOf(options: CompressOptions): Promise<DryRun> {
  const [dry] = await dryRunsOf(await runOf(options));
  return dry!;
}

/** For each file of a run. */
export async function plansOf(run: Run): Promise<readonly Plan[]> {
  return inTurn(await foresee(run), planRun);
}

/** For each file of a run. */
export async function dryRunsOf(run: Run): Promise<readonly DryRun[]> {
  return inTurn(await foresee(run), async (each) => dryRun(each, await planRun(each), each.notes));
}

async function inTurn<T, U>(all: readonly T[], work: (each: T) => Promise<U>): Promise<U[]> {
  const results: U[] = [];
  for (const each of all) results.push(await work(each));
  return results;
}

const openOutput = ({ out, overwrite, runs, made }: Begun): OutputFolder =>
  createOutputFolder(out, {
    overwrite,
    mayReplace: (folder) => mayReplace(folder, runs, made),
    reads: runs.flatMap(({ recipe }) => [recipe.model, ...inputsOf(recipe)]),
  });

/** Keyed by all that decides the bytes. */
function journalOf(runs: readonly Prepared[]): Journal {
  const [{ made, out, session, warn }] = runs as readonly [Prepared];
  const [recipe, ...others] = runs.map(({ recipe }) => {
    const { made: _, ...rest } = plainRecipe(recipe);
    return rest;
  });
  const beside = others.length > 0 ? { beside: others } : {};
  const machine = { device: session.device ?? 'cpu', machine: cpus()[0]?.model.trim() };
  return openJournal(out, { ...made, recipe, ...beside, ...machine }, { warn });
}

/** What was interrupted, or had no room, can go on; what was refused would be refused again. */
function leave({ out, warn }: Prepared, journal: Journal, error: unknown): void {
  const refused =
    error instanceof LapidaryError &&
    (error.exitCode === ExitCode.verification || error.exitCode === ExitCode.usage);
  if (refused) journal.remove();
  else if (journal.size > 0)
    warn(
      `what was done is kept beside ${out}: the same command continues from there (lapidary journals lists and removes such)`,
    );
}

/** Everything between an empty folder and a whole one. */
async function fill(
  runs: readonly Prepared[],
  output: OutputFolder,
  journal: Journal,
): Promise<readonly CompressReport[]> {
  const plans = await inTurn(runs, planRun);
  checkDisk(plans);
  const finished: Finished[] = [];
  for (const [index, run] of runs.entries()) {
    const { type, warn, clock } = run;
    const tight = memoryWarning(plans[index]!);
    if (tight) warn(tight);
    clock.start();
    finished.push(await made(run, output, type === undefined ? journal : partOf(journal, type)));
  }
  writeReports(runs, output, finished);
  return finished.map(({ report }) => report);
}

/** One file, written and measured. */
async function made(run: Prepared, output: OutputFolder, journal: Journal): Promise<Finished> {
  const { original, recipe, texts, importance, session, progress, signal, say, clock } = run;
  const words = openWords(recipe, original, texts, { ...session, progress, signal });
  const result = await applyRecipe(original.model, recipe, texts, {
    ...session,
    reread: async (model) => (await words.of(model)).texts.calibration,
    check: (model) => checkHeld(recipe.export.format, model, formats[recipe.export.format].label),
    journal,
    resumed: (share) => say(`Continuing at ${Math.floor(100 * share)}%.`),
    squares: importance?.squares,
    progress,
    signal,
  });
  clock.lap('compress');
  return finish({ ...run, ...(await words.of(result.model)) }, output, journal, result);
}
