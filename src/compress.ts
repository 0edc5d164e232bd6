/**
 * The main path: load, plan, walk, write, verify, measure, report. Everything else in the project is a part of one of
 * these steps.
 */

import { mkdirSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import type { Answers } from './generate/answers.ts';
import { answersOf, asksPrompts } from './generate/answers.ts';
import { applyRecipe } from './run/apply.ts';
import { ExitCode, LapidaryError } from './base/errors.ts';
import { checkFinite } from './base/finite.ts';
import { silent } from './base/progress.ts';
import type { LayerRow } from './calibrate/planned.ts';
import type { Walked } from './calibrate/walk.ts';
import { encodedBytes } from './encodings/encoding.ts';
import type { Evaluation } from './evaluate/evaluate.ts';
import type { Job, Written } from './formats/format.ts';
import { knownSlow, labelIn, lossOf, measuredSlow, speedsOf } from './formats/format.ts';
import { foretold, opening } from './formats/foretold.ts';
import { formats } from './formats/index.ts';
import { checkKept, settled } from './formats/settle.ts';
import { checkWindows, withSpared } from './formats/spared.ts';
import type { Importance } from './run/importance.ts';
import { readImportance } from './run/importance.ts';
import type { Journal } from './io/journal.ts';
import { isLegalFile } from './io/origin.ts';
import { openJournal, remember } from './io/journal.ts';
import type { OutputFolder } from './io/output.ts';
import { createOutputFolder } from './io/output.ts';
import { mayReplace } from './run/held.ts';
import { checkUnchanged, identify } from './io/range.ts';
import { costOf, tensorBytes } from './measure/measure.ts';
import type { OpenedCheckpoint } from './open.ts';
import { openForCompression } from './open.ts';
import type { Plan } from './plan/plan.ts';
import { checkDisk, memoryWarning, planRun } from './plan/plan.ts';
import type { CompressOptions, Run } from './run/asked.ts';
import { runOf } from './run/asked.ts';
import type { Texts } from './run/prepare.ts';
import { calibrationFile, readTexts } from './run/prepare.ts';
import type { Recipe } from './recipe/recipe.ts';
import { plainRecipe, writeRecipe } from './recipe/recipe.ts';
import { emptyPage, reportHtml } from './report/html.ts';
import type { CompressReport } from './report/report.ts';
import { changesSince, dataOf, describeRun, provenance } from './report/run.ts';

/**
 * Compresses a model and proves what was lost: by a recipe, by steps, or by what is recommended for an engine and bits. A
 * run that ends early keeps a journal beside `out`: the same call continues from there, to the same bytes.
 * @returns what was saved and lost, and `out`, the folder that was written
 * @throws LapidaryError on bad input, and with exit code verification when the written file does not compute what the
 *   model in memory does; nothing is left under its final name then
 */
export async function compress(asked: CompressOptions): Promise<CompressReport> {
  const options = await runOf(asked);
  let output: OutputFolder | undefined;
  let journal: Journal | undefined;
  try {
    const run = await prepare(options, (made, recipe) => {
      output = openOutput({ ...options, recipe }, made);
    });
    const work = { ...options, recipe: run.recipe };
    journal = journalOf(run, work);
    const report = await fill(output!, run, journal, work);
    options.signal?.throwIfAborted();
    output!.commit();
    journal.remove();
    return report;
  } catch (error) {
    if (journal) leave(journal, error, options);
    throw error;
  } finally {
    output?.abandon();
  }
}

function openOutput({ out, overwrite = false, recipe }: Run, made: Prepared['made']): OutputFolder {
  return createOutputFolder(out, {
    overwrite,
    mayReplace: (folder) => mayReplace(folder, recipe, made),
    reads: [recipe.model, ...inputsOf(recipe)],
  });
}

/** What the same `compress` will need, without doing it: bytes of memory by phase, bytes on the disk. */
export async function planOf(asked: CompressOptions): Promise<Plan> {
  const options = await runOf(asked);
  const { out, speed, answers } = options;
  const { recipe, original, texts } = await prepare(options);
  return planRun({ original, recipe, texts, out, speed, answers });
}

interface Prepared {
  /** As it is for this model. */
  readonly recipe: Recipe;
  readonly original: OpenedCheckpoint;
  readonly texts: Texts;
  readonly importance: Importance | undefined;
  /** Versions and hashes of what goes in. */
  readonly made: Record<string, unknown>;
  readonly notes: string[];
  readonly clock: ReturnType<typeof stopwatch>;
}

/**
 * Everything before the work: what can be wrong is found out here.
 * @param begin called when flags and files are known to be good, before what takes long: a place that cannot be written
 *   to is found out then
 */
async function prepare(
  options: Run,
  begin: (made: Prepared['made'], recipe: Recipe) => void = () => {},
): Promise<Prepared> {
  const clock = stopwatch();
  const notes: string[] = [];
  emptyPage();
  const warn = (line: string) => {
    options.warn?.(line);
    notes.push(line);
  };
  const { model, revision } = options.recipe;
  const original = await openForCompression(model, { ...options, warn, revision });
  const known = settled(options.recipe, original, { warn, note: (line) => void notes.push(line) });
  const recipe = await withSpared(known, original, warn);
  await formats[recipe.export.format].check(recipe, original);
  checkWindows(recipe, original, warn);
  for (const line of opening(recipe)) options.say?.(line);
  for (const line of foretold(recipe, original.model)) warn(line);
  for (const [name, tensor] of original.checkpoint.tensors) checkFinite(name, tensor, original.model.source);
  const read = inputsOf(recipe).map(identify);
  const importance = readImportance(recipe, original.model, (line) => void notes.push(line));
  const { device, threads, progress, signal } = options;
  let made: Prepared['made'] = {};
  const texts = await readTexts(recipe, original, (line) => void notes.push(line), {
    device,
    threads,
    progress,
    signal,
    begin: () => {
      made = provenance(original, recipe);
      begin(made, recipe);
    },
  });
  // The hashes are of what was read.
  read.forEach(checkUnchanged);
  for (const change of changesSince(recipe.made, made)) notes.push(change);
  clock.lap('load');
  return { recipe, original, texts, importance, made, notes, clock };
}

/** Files besides the model. */
const inputsOf = (recipe: Recipe): string[] =>
  [calibrationFile(recipe), recipe.evaluation.data, recipe.calibration.imatrix].filter(
    (path) => path !== undefined,
  );

/** Keyed by all that decides the bytes. */
function journalOf({ made }: Prepared, { recipe, out, device, warn = () => {} }: Run): Journal {
  const { made: _, ...rest } = plainRecipe(recipe);
  const key = { ...made, recipe: rest, device: device ?? 'cpu', machine: cpus()[0]?.model.trim() };
  return openJournal(out, key, { warn });
}

/** What was interrupted, or had no room, can go on; what was refused would be refused again. */
function leave(journal: Journal, error: unknown, { out, warn = () => {} }: Run): void {
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
  output: OutputFolder,
  { original, texts, importance, made, notes, clock }: Prepared,
  journal: Journal,
  options: Run,
): Promise<CompressReport> {
  const {
    recipe,
    out,
    speed,
    answers,
    device,
    threads,
    progress = silent,
    signal,
    warn = () => {},
    say,
  } = options;
  const session = { device, threads };
  const plan = await planRun({ original, recipe, texts, out, speed, answers });
  checkDisk(plan);
  const tight = memoryWarning(plan);
  if (tight) warn(tight);

  const { model: compressed, layers } = await applyRecipe(original.model, recipe, texts, {
    ...session,
    journal,
    resumed: (share) => say?.(`Continuing at ${Math.floor(100 * share)}%.`),
    squares: importance?.squares,
    progress,
    signal,
  });
  clock.lap('compress');

  // Beside the result: a disk that takes this one takes those that are measured and thrown away, and abandoning removes both.
  const scratch = join(output.staging, '.scratch');
  const job: Job = {
    recipe,
    original,
    compressed,
    texts,
    importance,
    folder: output.staging,
    scratch,
    session,
    progress,
    signal,
    note: (line) => void notes.push(line),
    remember: (what, work) => remember(journal, what, work),
  };
  mkdirSync(scratch);
  try {
    return await finish(output, job, { layers, made, notes, clock, out, speed, answers: options.answers });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Everything behind the walk: written, verified, measured, reported. */
async function finish(
  output: OutputFolder,
  job: Job,
  {
    layers,
    made,
    notes,
    clock,
    out,
    speed = true,
    answers,
  }: Omit<Prepared, 'recipe' | 'original' | 'texts' | 'importance'> &
    Pick<Walked, 'layers'> &
    Pick<Run, 'out' | 'speed' | 'answers'>,
): Promise<CompressReport> {
  const { recipe, original, texts } = job;
  const format = formats[recipe.export.format];
  const written = await format.write(job);
  clock.lap('export and verify');
  const { details, original: before, ...loss } = await measuredLoss(job, written);
  clock.lap('evaluate');
  const speeds = speed ? await speedsOf(job, written) : undefined;
  if (speed) clock.lap('measure speed');
  const asked = asksPrompts({ speed, answers }, original.model);
  const said = asked ? await answersIn(job, written) : [];
  if (asked) clock.lap('answer prompts');
  const { accuracy, file, checks, opened } = written;
  // A format with types of its own stores other bytes than the method chose codes.
  const stored = opened.model ?? job.compressed;
  checkKept(recipe, original.model, stored);
  const slow = knownSlow(stored.matrices.values());
  if (slow) notes.push(slow);
  const asStored = (layer: LayerRow): LayerRow => {
    const made = job.compressed.matrices.get(layer.name)!;
    // Codes opened again may be told by the room that they have in memory; floats have the file's type only then.
    const encoding = written.stored || made.bits >= 16 ? stored.matrices.get(layer.name)! : made;
    const before = original.model.matrices.get(layer.name);
    const inFile = opened.model ? tensorBytes(opened.checkpoint.tensors, layer.name) : 0;
    return {
      ...layer,
      encoding: labelIn(format, encoding),
      // Rewrites pass floats on; what they untie was not there.
      bytesBefore: before ? encodedBytes(before) : 0,
      // A format's names may be others, and GGUF's blocks count as floats.
      bytesAfter: Math.min(inFile || Number.POSITIVE_INFINITY, encodedBytes(encoding)),
    };
  };
  const report: CompressReport = {
    model: original.name,
    modelType: original.model.config.modelType,
    out,
    chat: original.tokenizer.chat !== undefined,
    recipe: {
      ...recipe,
      export: { ...recipe.export, ...(accuracy ? { accuracyLevel: accuracy.level } : {}) },
      made,
    },
    original: { ...costOf(original), ...before, speed: speeds?.original },
    compressed: { ...costOf(opened), ...loss, speed: speeds?.compressed },
    file,
    checks,
    accuracyLevels: accuracy?.levels,
    layers: layers.map(asStored),
    answers: said,
    notes,
    slower: measuredSlow(speeds),
    seconds: clock.laps(),
  };
  const data = dataOf(report, { original, stored, texts, format, details, speeds });
  const write = (name: string, text: string) => output.write(name, new TextEncoder().encode(text));
  for (const [name, read] of original.model.files) if (isLegalFile(name)) output.write(name, read());
  write('recipe.yaml', writeRecipe(report.recipe));
  write('report.json', `${JSON.stringify(data, null, 1)}\n`);
  write('report.html', reportHtml([data], 'README.md#use'));
  write('README.md', describeRun(report, data, { original, stored, format }));
  return report;
}

function answersIn(job: Job, written: Written): Promise<readonly Answers[]> {
  const { original, texts, folder, session, signal, progress, remember } = job;
  progress({ phase: 'answer prompts', done: 0, total: 1 });
  const evaluated = texts.evaluation?.sequences ?? [];
  return remember('answers', async () => {
    const file = join(folder, written.file.path);
    const answers = await answersOf(original, file, written, evaluated, { ...session, signal });
    signal?.throwIfAborted();
    return answers;
  });
}

/** Nothing where there was no text; choosing how the file multiplies may have measured it. */
async function measuredLoss(job: Job, { accuracy, opened }: Written): Promise<Partial<Evaluation>> {
  if (!job.texts.evaluation) return {};
  return accuracy?.evaluation ?? (await lossOf(job, opened));
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
