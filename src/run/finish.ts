/** Everything behind the work on the model: its result is written, verified, measured and reported. */

import { mkdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { LayerRow } from '../calibrate/planned.ts';
import type { Walked } from '../calibrate/walk.ts';
import { encodedBytes } from '../encodings/encoding.ts';
import type { Evaluation } from '../evaluate/evaluate.ts';
import type { Job, Speeds, Written } from '../formats/format.ts';
import { knownSlow, labelIn, lossOf, measuredSlow, speedsOf } from '../formats/format.ts';
import { formats } from '../formats/index.ts';
import { checkKept } from '../formats/settle.ts';
import type { Answers } from '../generate/answers.ts';
import { answersOf } from '../generate/answers.ts';
import type { Journal } from '../io/journal.ts';
import { remember } from '../io/journal.ts';
import { isLegalFile } from '../io/origin.ts';
import type { OutputFolder } from '../io/output.ts';
import { costOf, tensorBytes } from '../measure/measure.ts';
import type { Model } from '../models/model.ts';
import { writeRecipe } from '../recipe/recipe.ts';
import { reportHtml } from '../report/html.ts';
import type { CompressReport } from '../report/report.ts';
import type { CardFormat } from '../report/card-format.ts';
import type { ReportData } from '../report/data.ts';
import { recipeName, reportName } from '../report/files.ts';
import { dataOf, describeRuns } from '../report/run.ts';
import type { Prepared } from './prepared.ts';
import type { Words } from './words.ts';
import { sameWords } from './words.ts';

/** The compressed model, and a row for each of its matrices. */
type Result = Pick<Walked, 'model' | 'layers'>;

/** A result as reports tell it. */
export interface Finished {
  readonly report: CompressReport;
  readonly data: ReportData;
  readonly card: CardFormat;
}

/** What was found of a result. */
interface Found {
  readonly written: Written;
  /** As it stands in the file. */
  readonly stored: Model;
  readonly loss: Partial<Evaluation>;
  readonly speeds: Speeds | undefined;
  readonly answers: readonly Answers[];
}

/**
 * @param run with the tokenizer and the texts of the result, which are not the original's where its vocabulary is another
 * @returns what the run says of itself, as it stands in the output, too
 */
export async function finish(
  run: Prepared & Words,
  output: OutputFolder,
  journal: Journal,
  result: Result,
): Promise<Finished> {
  // Beside the result: a disk that takes this one takes those that are measured and thrown away, and abandoning removes both.
  const scratch = join(output.staging, '.scratch');
  const job: Job = {
    ...run,
    compressed: result.model,
    folder: output.staging,
    scratch,
    remember: (what, work) => remember(journal, what, work),
  };
  mkdirSync(scratch);
  try {
    const found = await measured(run, job);
    const report = reportOf(run, result, found);
    const { original, texts } = run;
    const { stored, written, loss, speeds } = found;
    const format = formats[run.recipe.export.format];
    const data = dataOf(report, { original, stored, texts, format, details: loss.details, speeds });
    const { file } = written;
    return {
      report,
      data,
      card: format.card({ name: basename(report.out), file, chat: report.chat, model: stored }),
    };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Written, loaded again, measured. */
async function measured({ clock, note, speed, answers }: Prepared, job: Job): Promise<Found> {
  const { recipe, original } = job;
  const written = await formats[recipe.export.format].write(job);
  clock.lap('export and verify');
  const loss = await measuredLoss(job, written);
  clock.lap('evaluate');
  const speeds = speed ? await speedsOf(job, written) : undefined;
  if (speed) clock.lap('measure speed');
  const same = sameWords(original.model, job.compressed);
  if (!same) note(otherWords);
  const asked = answers && same;
  const said = asked ? await answersIn(job, written) : [];
  if (asked) clock.lap('answer prompts');
  // A format with types of its own stores other bytes than the method chose codes.
  const stored = written.opened.model ?? job.compressed;
  checkKept(recipe, original.model, stored);
  const slow = knownSlow(stored.matrices.values());
  if (slow) note(slow);
  return { written, stored, loss, speeds, answers: said };
}

const otherWords =
  "Its vocabulary is not the original's, so that predictions are not compared token by token: bits a character can be.";

function reportOf(
  { recipe, type, original, out, made, notes, clock, tokenizer }: Prepared & Words,
  { model: compressed, layers }: Result,
  { written, stored, loss, speeds, answers }: Found,
): CompressReport {
  const { accuracy, file, checks, opened } = written;
  const { details: _, original: before, ...after } = loss;
  const format = formats[recipe.export.format];
  // What changes the layers gives their matrices other names.
  const renamed = compressed.config.layers !== original.model.config.layers;
  const asStored = (layer: LayerRow): LayerRow => {
    const made = compressed.matrices.get(layer.name)!;
    // Codes opened again may be told by the room that they have in memory; floats have the file's type only then.
    const encoding = written.stored || made.bits >= 16 ? stored.matrices.get(layer.name)! : made;
    const source = original.model.matrices.get(layer.name);
    const inFile = opened.model ? tensorBytes(opened.checkpoint.tensors, layer.name) : 0;
    return {
      ...layer,
      encoding: labelIn(format, encoding, recipe.export),
      // Rewrites pass floats on; what they untie was not there.
      bytesBefore: renamed ? layer.bytesBefore : source ? encodedBytes(source) : 0,
      // A format's names may be others, and GGUF's blocks count as floats.
      bytesAfter: Math.min(inFile || Number.POSITIVE_INFINITY, encodedBytes(encoding)),
    };
  };
  return {
    model: original.name,
    modelType: original.model.config.modelType,
    out,
    ...(type === undefined ? {} : { type }),
    chat: tokenizer.chat !== undefined,
    recipe: {
      ...recipe,
      export: { ...recipe.export, ...(accuracy ? { accuracyLevel: accuracy.level } : {}) },
      made,
    },
    original: { ...costOf(original), ...before, speed: speeds?.original },
    compressed: { ...costOf(opened), ...after, speed: speeds?.compressed },
    file,
    checks,
    accuracyLevels: accuracy?.levels,
    layers: layers.map(asStored),
    answers,
    notes,
    slower: measuredSlow(speeds),
    seconds: clock.laps(),
  };
}

/** Recipes, reports, card and licenses: when all files are there. */
export function writeReports(
  runs: readonly Prepared[],
  output: OutputFolder,
  finished: readonly Finished[],
): void {
  const { original } = runs[0]!;
  const write = (name: string, text: string) => output.write(name, new TextEncoder().encode(text));
  for (const [name, read] of original.model.files) if (isLegalFile(name)) output.write(name, read());
  for (const [index, { report, data }] of finished.entries()) {
    const { type } = runs[index]!;
    write(recipeName(type), writeRecipe(report.recipe));
    write(reportName(type), `${JSON.stringify(data, null, 1)}\n`);
  }
  write(
    'report.html',
    reportHtml(
      finished.map(({ data }) => data),
      'README.md#use',
    ),
  );
  write('README.md', describeRuns(finished, original));
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
