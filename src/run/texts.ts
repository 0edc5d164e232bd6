/** Which tokens a recipe means for the model at hand: to fit to, to measure on, and for the check of what was written. */

import { basename } from 'node:path';
import { LapidaryError } from '../base/errors.ts';
import { random } from '../base/random.ts';
import type { DataOptions } from '../calibrate/data.ts';
import { readDocuments } from '../calibrate/data.ts';
import { renderedTexts } from '../calibrate/documents.ts';
import type { Documents } from '../calibrate/sequences.ts';
import { documentSequences, packSequences, predictedCharacters } from '../calibrate/sequences.ts';
import type { Assignment } from '../calibrate/targets.ts';
import { targetsOf } from '../calibrate/targets.ts';
import type { Method } from '../contract/method.ts';
import type { Model } from '../models/model.ts';
import type { OpenedCheckpoint } from '../open.ts';
import { isShipped, shipped } from '../open.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { Step } from '../recipe/steps.ts';
import type { SampledTextOptions } from '../generate/sampled.ts';
import { sampledSequences } from '../generate/sampled.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { assignment } from './assignment.ts';

/** The calibration text that a recipe names; the model that ships with the package has its own. */
export function calibrationFile({ model, calibration }: Recipe): string | undefined {
  if (calibration.generated) return undefined;
  return calibration.data ?? (isShipped(model) ? shipped.data : undefined);
}

export interface Texts {
  /** Packed to one length; empty where there is no text and no method needs one. */
  readonly calibration: readonly Int32Array[];
  readonly evaluation?: Documents | undefined;
  /** A sequence for the check of the written file. */
  readonly verification: Int32Array;
  /** Where the evaluation text is from, for people. */
  readonly evaluationData?: string | undefined;
}

/** Share of the calibration documents that is kept for evaluation where no other text is given. */
const heldOutShare = 0.2;
const verificationTokens = 64;

/** How the model writes text, where it is to; `begin` is called before, when all files are read. */
export interface TextWork extends Pick<SampledTextOptions, 'device' | 'threads' | 'progress' | 'signal'> {
  readonly begin?: (() => void) | undefined;
}

/** @throws LapidaryError when a method needs calibration text and there is none */
export async function readTexts(
  recipe: Recipe,
  opened: OpenedCheckpoint,
  note: (line: string) => void,
  { begin = () => {}, ...work }: TextWork = {},
): Promise<Texts> {
  const { tokenizer, context, model } = opened;
  const { calibration, evaluation, seed } = recipe;
  const data = calibrationFile(recipe);
  if (data === undefined && !calibration.generated && needsText(recipe)) {
    throw new LapidaryError({
      what: 'there is no calibration text, and a method of the recipe needs one',
      expected: '--calibration FILE: text, JSON, CSV or Parquet, like what the model will read',
      fix: 'give one, let the model write it (--generated-calibration), or choose what needs none: --method rtn, or for gguf --fit plain',
    });
  }
  const read = async (path: string, options: DataOptions) =>
    renderedTexts(await readDocuments(path, options), tokenizer, path);
  const documents = data === undefined ? [] : await read(data, calibration);
  const [fitted, heldOut] = evaluation.data === undefined ? holdOut(documents, seed) : [documents, []];
  const evaluated = evaluation.data === undefined ? heldOut : await read(evaluation.data, evaluation);
  begin();
  let sequences: readonly Int32Array[] = [];
  const length = Math.min(calibration.length, context);
  const written = calibration.generated ? await writtenTexts(recipe, opened, work) : undefined;
  if (written) {
    sequences = written.calibration;
    note(`Calibrated on ${sequences.length} sequences of ${length} tokens that the model wrote itself.`);
  }
  if (fitted.length > 0) {
    const packed = packSequences(fitted, tokenizer, { length, count: calibration.sequences, seed });
    sequences = packed.sequences;
    if (packed.note) note(packed.note);
  }
  const measured =
    evaluated.length > 0 ? evaluationSequences(evaluated, tokenizer, recipe, context) : written?.evaluation;
  if (!measured)
    note('There was no text to measure on: what was lost is not known. Give --calibration or --evaluation.');
  const check = measured?.sequences[0] ?? syntheticIds(model.config.vocabulary, seed);
  return {
    calibration: sequences,
    evaluation: measured,
    verification: check.slice(0, Math.min(verificationTokens, context)),
    evaluationData: measured && describeData(evaluation.data, data),
  };
}

/** As many and as long as those of the run; what the model would write itself is not written. */
export function textsToPlan(
  recipe: Recipe,
  opened: OpenedCheckpoint,
  note: (line: string) => void,
): Promise<Texts> {
  const { calibration, evaluation, seed } = recipe;
  if (!calibration.generated) return readTexts(recipe, opened, note);
  const { context, model } = opened;
  const some = (length: number, count: number) =>
    Array.from({ length: count }, () => new Int32Array(Math.min(length, context)));
  const sequences = some(evaluation.length, Math.min(evaluation.sequences, writtenToMeasure(calibration)));
  return Promise.resolve({
    calibration: some(calibration.length, calibration.sequences),
    evaluation: { sequences, characters: sequences.map(() => 0) },
    verification: syntheticIds(model.config.vocabulary, seed).slice(0, context),
  });
}

const writtenToMeasure = ({ sequences }: Recipe['calibration']): number =>
  Math.ceil(heldOutShare * sequences);

/** Text of the model's own to fit to and, where no other is given, more of it to measure on. */
async function writtenTexts(
  { calibration, evaluation, seed }: Recipe,
  { model, tokenizer, context }: OpenedCheckpoint,
  work: Omit<TextWork, 'begin'>,
): Promise<Pick<Texts, 'calibration' | 'evaluation'>> {
  const write = (length: number, count: number, seed: number) =>
    sampledSequences(model, { ...work, length: Math.min(length, context), count, seed });
  const fitted = await write(calibration.length, calibration.sequences, seed);
  if (evaluation.data !== undefined) return { calibration: fitted };
  const share = writtenToMeasure(calibration);
  // By itself, so that what is fitted to is the same whatever is measured on.
  const sequences = await write(evaluation.length, Math.min(evaluation.sequences, share), seed + 1);
  const characters = sequences.map((sequence) => predictedCharacters(sequence, tokenizer));
  return { calibration: fitted, evaluation: { sequences, characters } };
}

/** Whether a step cannot do without calibration text. */
export const needsText = ({ steps, calibration }: Recipe): boolean =>
  steps.some((step) => stepNeedsText(step, calibration.imatrix !== undefined));

/** @param hasSquares whether somebody has an importance matrix */
export function stepNeedsText(
  { method, options }: { readonly method: Method; readonly options: Step['options'] },
  hasSquares = false,
): boolean {
  if (method.shape === 'train') return true;
  if (method.shape === 'rewrite' && method.scope === 'model') return method.needsText(options);
  const kind = method.statistic(options);
  return kind !== 'none' && !(hasSquares && kind === 'squares');
}

/** Errors are compensated by what the inputs have in common, and in little text they seem to have much. */
export function fewTokens(
  recipe: Recipe,
  model: Model,
  sequences: readonly Int32Array[],
): string | undefined {
  const assign = assignment(recipe, model);
  const compensated = ({ method, options }: Assignment) =>
    method.shape === 'linear' && !['none', 'squares', 'norm'].includes(method.statistic(options));
  const widths = targetsOf(model).map((target) => {
    const assigned = assign(target);
    return assigned && compensated(assigned) ? target.shape[1] : 0;
  });
  const [tokens, widest] = [sequences.length * sequences[0].length, Math.max(0, ...widths)];
  if (tokens >= 2 * widest) return undefined;
  return `Calibrated on ${tokens} tokens, little for matrices with ${widest} inputs: compensating errors may do more harm than good. Give more text, or more --sequences.`;
}

/** By file names: a card is read on other machines. */
function describeData(evaluation: string | undefined, calibration: string | undefined): string {
  if (evaluation !== undefined) return basename(evaluation);
  if (calibration === undefined) return 'text that the model wrote itself, held out';
  return `a held-out part of ${basename(calibration)}`;
}

/** [to fit, to evaluate]: documents are shuffled by the seed; a single one is cut. */
function holdOut(
  documents: readonly string[],
  seed: number,
): readonly [readonly string[], readonly string[]] {
  if (documents.length === 0) return [[], []];
  if (documents.length === 1) {
    const [text] = documents as [string];
    const cut = Math.floor(text.length * (1 - heldOutShare));
    return [[text.slice(0, cut)], [text.slice(cut)]];
  }
  const shuffled = random(seed).shuffle([...documents]);
  const cut = Math.min(documents.length - 1, Math.ceil(documents.length * (1 - heldOutShare)));
  return [shuffled.slice(0, cut), shuffled.slice(cut)];
}

/** One sequence a document, as `lapidary evaluate` has them; a few long documents are cut into equal parts instead. */
function evaluationSequences(
  documents: readonly string[],
  tokenizer: Tokenizer,
  { evaluation, seed }: Recipe,
  context: number,
): Documents {
  const length = Math.min(evaluation.length, context);
  // A single document is cut into windows there.
  const each = documentSequences(documents, tokenizer, { length, documents: evaluation.sequences });
  const uncut = each.sequences.every((sequence) => sequence.length < length);
  if (documents.length === 1 || documents.length >= evaluation.sequences || uncut) return each;
  const { sequences } = packSequences(documents, tokenizer, { length, count: evaluation.sequences, seed });
  const characters = sequences.map((sequence) => predictedCharacters(sequence, tokenizer));
  return { sequences, characters };
}

/** Tokens for the check where there is no text at all: any will do, both sides compute the same. */
function syntheticIds(vocabulary: number, seed: number): Int32Array {
  const source = random(seed);
  return Int32Array.from({ length: verificationTokens }, () => source.integer(vocabulary));
}
