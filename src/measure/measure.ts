/**
 * One standard way to measure: what a model costs, how well it predicts text, and how far it is from its original;
 * the same keys whatever MODEL is. `evaluate`, `compare` and the library's `evaluate` all go through here.
 */

import type { Progress, ProgressEvent } from '../base/progress.ts';
import { readDocuments } from '../calibrate/data.ts';
import { renderedTexts } from '../calibrate/documents.ts';
import type { Documents } from '../calibrate/sequences.ts';
import { documentSequences } from '../calibrate/sequences.ts';
import { modelScorer } from '../evaluate/blocks.ts';
import type { Cost } from '../evaluate/cost.ts';
import { fileCost } from '../evaluate/cost.ts';
import type { EvaluateOptions, Evaluation } from '../evaluate/evaluate.ts';
import { evaluate } from '../evaluate/evaluate.ts';
import { fileScorer } from '../evaluate/file.ts';
import type { RivalsOptions, Taken } from '../evaluate/rivals.ts';
import { evaluateRivals } from '../evaluate/rivals.ts';
import type { Scorer } from '../evaluate/scorer.ts';
import type { SessionOptions } from '../graph/session.ts';
import { bytes, multiplyAdds, parameters } from '../models/size.ts';
import type { Opened, OpenedCheckpoint, OpenedWeights } from '../open.ts';
import { openModel } from '../open.ts';

export interface MeasureOptions extends Pick<SessionOptions, 'device' | 'threads'> {
  readonly data: string;
  readonly separator?: string | undefined;
  readonly field?: string | undefined;
  /** Only the first so many documents; of a single one, so many windows. */
  readonly documents?: number | undefined;
  /** Tokens that a document is cut at, BOS included, and that a single one is cut into; the model's context without it. */
  readonly length?: number | undefined;
  /** The original, for divergence: anything that MODEL may be. */
  readonly against?: string | undefined;
  readonly revision?: string | undefined;
  readonly seed?: number | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly warn?: ((line: string) => void) | undefined;
}

export type Measurement = Evaluation & Cost;

type Session = Pick<SessionOptions, 'device' | 'threads'>;

/** @throws LapidaryError on a model or text that cannot be used */
export async function measure(location: string | undefined, options: MeasureOptions): Promise<Measurement> {
  const [measured] = await measureAll([location], options);
  return measured!;
}

/** One of several models on the same text. */
export interface Comparison extends Measurement {
  /** As it was named. */
  readonly model: string;
}

/**
 * Several models on the same text, side by side: bytes, perplexity, and how far each is from the first, or from `against`.
 * @param models folders, hub ids, .gguf or .onnx files
 * @returns one for each, in order
 * @throws LapidaryError on a model or text that cannot be used
 */
export async function compare(
  models: readonly string[],
  { against = models[0], ...options }: MeasureOptions,
): Promise<Comparison[]> {
  const measured = await measureAll(models, { ...options, against });
  return measured.map((each, index) => ({ model: models[index]!, ...each }));
}

/** Several models on the same text; all are opened before the first is measured, so that a wrong name costs no time. */
export async function measureAll(
  locations: readonly (string | undefined)[],
  { against, revision, device, threads, ...options }: MeasureOptions,
): Promise<Measurement[]> {
  const { separator, field, documents, length, warn = () => {} } = options;
  const models: Opened[] = [];
  for (const location of locations) models.push(await openModel(location, { ...options, revision }));
  // A revision is the model's; the original is what its name says.
  const original = against === undefined ? undefined : await openModel(against, options);
  const read = await readDocuments(options.data, { separator, field, limit: documents });
  if (read.length === 1 && separator)
    warn(`the separator ${JSON.stringify(separator)} is not in the text, which is one document`);
  const results: Measurement[] = [];
  for (const opened of models) {
    const evaluated = documentSequences(
      renderedTexts(read, opened.tokenizer, options.data),
      opened.tokenizer,
      {
        length: Math.min(length ?? opened.context, opened.context),
        documents,
      },
    );
    // Of several, which one it is that takes so long.
    const progress =
      models.length === 1
        ? options.progress
        : ({ phase, ...event }: ProgressEvent) =>
            options.progress?.({ ...event, phase: `${phase} ${opened.name}` });
    const measured = await measureOpened(opened, original, evaluated, {
      ...options,
      progress,
      session: { device, threads },
    });
    results.push({ ...measured, ...costOf(opened) });
  }
  return results;
}

/** What a model loses on given sequences; `details` say where, against an original. */
export async function measureOpened(
  opened: Opened,
  against: Opened | undefined,
  { sequences, characters }: Documents,
  options: Pick<MeasureOptions, 'seed' | 'progress' | 'signal'> &
    Pick<EvaluateOptions, 'details'> & { readonly session?: Session },
): Promise<Evaluation> {
  const scorer = await openScorer(opened, options.session);
  const original = against && (await openScorer(against, options.session));
  try {
    return await evaluate({ ...options, scorer, against: original, sequences, characters });
  } finally {
    await scorer.close();
    await original?.close();
  }
}

/**
 * The same of one model in several files, of which the first part of the text decides which the rest is measured on.
 * @param choose see `RivalsOptions`
 */
export async function measureRivals(
  rivals: readonly Opened[],
  against: Opened,
  { sequences, characters }: Documents,
  {
    choose,
    ...options
  }: Pick<MeasureOptions, 'seed' | 'progress' | 'signal'> &
    Pick<RivalsOptions, 'details' | 'choose'> & { readonly session?: Session },
): Promise<Taken> {
  const original = await openScorer(against, options.session);
  try {
    const openers = rivals.map((rival) => () => openScorer(rival, options.session));
    return await evaluateRivals(openers, { ...options, choose, against: original, sequences, characters });
  } finally {
    await original.close();
  }
}

async function openScorer(opened: Opened, session: Session = {}): Promise<Scorer> {
  return opened.model ? modelScorer(opened.model, session) : fileScorer(opened.file, session);
}

/** Bytes of a checkpoint are its weights', as they are stored; of an exported or GGUF file, all that an engine loads. */
export function costOf(opened: OpenedWeights): Cost {
  if (opened.file !== undefined) return fileCost(opened.file);
  const { model, checkpoint, fileBytes } = opened;
  // Codes may take more room in memory than in the file: three bits four. GGUF's blocks count as floats there.
  const stored = Math.min(bytes(model), tensorBytes(checkpoint.tensors));
  const count = parameters(model);
  return {
    bytes: fileBytes ?? stored,
    parameters: count,
    bitsPerWeight: (8 * stored) / count,
    multiplyAdds: multiplyAdds(model),
  };
}

/** @param name of one matrix; without it of all that there is */
export function tensorBytes(tensors: OpenedCheckpoint['checkpoint']['tensors'], name?: string): number {
  const stem = name?.replace(/\.weight$/, '');
  const isPart = (key: string) => key === name || (key.startsWith(`${stem}.`) && key !== `${stem}.bias`);
  let sum = 0;
  for (const [key, { byteLength }] of tensors) if (name === undefined || isPart(key)) sum += byteLength;
  return sum;
}
