/**
 * The main path: prepare, plan, apply the recipe, write, verify, measure, report. Everything else in the project is a part
 * of one of these steps.
 */

import { cpus } from 'node:os';
import { ExitCode, LapidaryError } from './base/errors.ts';
import { checkHeld } from './formats/holds.ts';
import { formats } from './formats/index.ts';
import type { Journal } from './io/journal.ts';
import { openJournal } from './io/journal.ts';
import type { OutputFolder } from './io/output.ts';
import { createOutputFolder } from './io/output.ts';
import type { DryRun } from './plan/dry-run.ts';
import { dryRun } from './plan/dry-run.ts';
import type { Plan } from './plan/plan.ts';
import { checkDisk, memoryWarning, planRun } from './plan/plan.ts';
import { plainRecipe } from './recipe/recipe.ts';
import type { CompressReport } from './report/report.ts';
import { applyRecipe } from './run/apply.ts';
import type { CompressOptions } from './run/asked.ts';
import { runOf } from './run/asked.ts';
import { finish } from './run/finish.ts';
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
  let output: OutputFolder | undefined;
  let journal: Journal | undefined;
  let run: Prepared | undefined;
  try {
    run = await prepare(await runOf(options), (begun) => {
      output = openOutput(begun);
    });
    journal = journalOf(run);
    const report = await fill(run, output!, journal);
    run.signal?.throwIfAborted();
    output!.commit();
    journal.remove();
    return report;
  } catch (error) {
    if (run && journal) leave(run, journal, error);
    throw error;
  } finally {
    output?.abandon();
  }
}

/** What the same `compress` will need, without doing it: bytes of memory by phase, bytes on the disk. */
export async function planOf(options: CompressOptions): Promise<Plan> {
  return planRun(await foresee(await runOf(options)));
}

/** What the same `compress` would do to which matrix, and what the result will take; reads no weights. */
export async function dryRunOf(options: CompressOptions): Promise<DryRun> {
  const run = await foresee(await runOf(options));
  return dryRun(run, await planRun(run), run.notes);
}

const openOutput = ({ out, overwrite, recipe, made }: Begun): OutputFolder =>
  createOutputFolder(out, {
    overwrite,
    mayReplace: (folder) => mayReplace(folder, recipe, made),
    reads: [recipe.model, ...inputsOf(recipe)],
  });

/** Keyed by all that decides the bytes. */
function journalOf({ made, recipe, out, session, warn }: Prepared): Journal {
  const { made: _, ...rest } = plainRecipe(recipe);
  const key = { ...made, recipe: rest, device: session.device ?? 'cpu', machine: cpus()[0]?.model.trim() };
  return openJournal(out, key, { warn });
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
async function fill(run: Prepared, output: OutputFolder, journal: Journal): Promise<CompressReport> {
  const { original, recipe, texts, importance, session, progress, signal, warn, say, clock } = run;
  const plan = await planRun(run);
  checkDisk(plan);
  const tight = memoryWarning(plan);
  if (tight) warn(tight);
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
