/**
 * What a compressed model is written as. A format writes its file, checks it in the engine that will run it, says how
 * its loss and speed are measured, and what its model card tells. The main path knows no more of it than this.
 */

import { join } from 'node:path';
import type { Progress } from '../base/progress.ts';
import type { Target } from '../calibrate/targets.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { Evaluation } from '../evaluate/evaluate.ts';
import type { Taken } from '../evaluate/rivals.ts';
import type { Speed, SpeedOptions } from '../evaluate/speed.ts';
import { isSlower } from '../evaluate/pace.ts';
import type { AccuracyChoice } from '../export/accuracy.ts';
import type { SessionOptions } from '../graph/session.ts';
import type { Model } from '../models/model.ts';
import type { Importance } from '../run/importance.ts';
import { measureOpened, measureRivals } from '../measure/measure.ts';
import type { Opened, OpenedCheckpoint } from '../open.ts';
import type { Texts } from '../run/texts.ts';
import { sameWords } from '../run/words.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { CardFacts, CardFormat } from '../report/card-format.ts';
import type { Check, WrittenFile } from '../export/written.ts';
import type { Recommendation, Wanted } from './recommend.ts';

/** What a run knows when its result is to be written. */
export interface Job {
  readonly recipe: Recipe;
  /** What the file is called, where it is one of several in its folder. */
  readonly type?: string | undefined;
  readonly original: OpenedCheckpoint;
  readonly compressed: Model;
  /** Of the compressed model: another one where its vocabulary is. */
  readonly tokenizer: Tokenizer;
  /** In its ids. */
  readonly texts: Texts;
  /** What the file tells of the importance matrix that it was made with. */
  readonly importance?: Importance | undefined;
  /** The folder that the result is written to, and one for what is only measured. */
  readonly folder: string;
  readonly scratch: string;
  readonly session: Pick<SessionOptions, 'device' | 'threads'>;
  readonly progress: Progress;
  readonly signal?: AbortSignal | undefined;
  /** Told what readers of the report must know. */
  readonly note: (line: string) => void;
  /** Results of long work, kept for a run that is killed and started again. */
  readonly remember: <T>(what: string, work: () => Promise<T>) => Promise<T>;
}

export interface Written {
  readonly file: WrittenFile;
  readonly checks: readonly Check[];
  /** As its users run it; the loss is measured on this. */
  readonly opened: Opened;
  /** As its types hold it, where the format has types of its own. */
  readonly stored?: Model | undefined;
  /** How it multiplies, and the loss, where choosing measured it. */
  readonly accuracy?: AccuracyChoice | undefined;
  /** Undefined where the engine is not there. */
  readonly race?: Race | undefined;
}

/** How fast files of the format run, where their engine is there. */
export interface Race {
  readonly engine: string;
  /** The original with its own weights, written at the first call. @returns its path */
  writeOriginal(): Promise<string>;
  measure(path: string, options: RaceOptions): Promise<Speed>;
  /** The most likely ids behind each prompt, where this engine is another one than what opens the written file. */
  readonly greedy?: Greedy | undefined;
}
export type Greedy = (
  path: string,
  prompts: readonly Int32Array[],
  options: Job['session'] & {
    readonly tokens: number;
    readonly ends: readonly number[];
    readonly signal?: AbortSignal | undefined;
  },
) => Promise<readonly (readonly number[])[]>;
export type RaceOptions = Job['session'] & Pick<SpeedOptions, 'prompt' | 'tokens' | 'signal'>;

export interface Speeds {
  readonly engine: string;
  readonly original: Speed;
  readonly compressed: Speed;
}

/** What people call the engines that run results. */
export type EngineName =
  | 'transformers.js'
  | 'node'
  | 'browser'
  | 'webgpu'
  | 'wasm'
  | 'onnxruntime'
  | 'onnxruntime-genai'
  | 'llama.cpp'
  | 'node-llama-cpp'
  | 'ollama'
  | 'lm-studio'
  | 'vllm'
  | 'transformers'
  | 'mlx'
  | 'mlx-lm';

/** What an engine wants of the format that it runs, where nothing else is asked for. */
export interface Engine {
  /** How the file is written. */
  readonly export?: Partial<Recipe['export']>;
  /** Bits for who names none; 4 without it. */
  readonly bits?: number;
  /** What it is faster with than with what the format recommends. */
  readonly recommend?: (wanted: Wanted) => Recommendation | undefined;
}

/** What will be written. */
export interface FileSize {
  /** Of all files that an engine loads the weights from. */
  readonly bytes: number;
  /** Of each matrix in them. */
  readonly matrices: ReadonlyMap<string, number>;
  /** Whether something of it is decided only when the file is written and measured, which changes it by some bytes. */
  readonly about?: boolean | undefined;
}

/** Integers in groups, as a step makes them. */
export interface IntegerWeights {
  readonly bits: number;
  /** Whether groups have zero points of their own. */
  readonly zeroPoints: boolean;
  /** Whether products round their inputs too. */
  readonly roundedInputs: boolean;
}

/** What a type of file, as its users name it, asks of a recipe. */
export interface AskedType {
  /** Options of what compresses the blocks; without them all weights stay floats. */
  readonly options?: Readonly<{ bits: number } | { type: string }>;
  readonly export?: Partial<Recipe['export']>;
}

export interface Format {
  /** "ONNX for transformers.js" */
  readonly label: string;
  /** What runs it, as `--for` names them. */
  readonly engines: Readonly<Partial<Record<EngineName, Engine>>>;
  /** Those that run it, too, and are given another format where none is asked for. */
  readonly alsoRunBy?: readonly EngineName[] | undefined;
  /** The compressor for who names none. */
  recommend(wanted: Wanted): Recommendation;
  /** Types that a folder may hold side by side, by name; undefined where it has one. */
  readonly types?: Readonly<Record<string, AskedType>>;
  /** Whether the embedding and the head stay as they are, because engines take nothing else. */
  readonly keepsTables?: boolean | undefined;
  /** What integers in groups it holds: with offsets that are no zero points, with scales that need float32. */
  readonly grids: { readonly offsets: boolean; readonly wideScales: boolean };
  /** Options without which what a method makes does not fit, by those that it has. */
  fitting(options: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>;
  /** Bits that integers are stored in. */
  storedBits(integers: IntegerWeights): number;
  /** The type of what stays floats; undefined where each keeps its own. */
  floats(written: Recipe['export']): string | undefined;
  /** What it stores in place of an encoding, where it has types of its own. @throws LapidaryError where it has none for it */
  readonly stored?: ((encoding: Encoding) => Encoding) | undefined;
  /** Before the work: the bytes of what will be written, of a model as the recipe will leave it; reads no weights. */
  size(outline: Model, recipe: Recipe, original: OpenedCheckpoint): FileSize;
  /** Before the work: what becomes of a recipe here that its reader does not expect, in sentences. */
  foretell?(recipe: Recipe, model: Model): readonly string[];
  /**
   * Before the work: whether the original's architecture and what the recipe makes can be written.
   * @throws LapidaryError saying what would
   */
  check(recipe: Recipe, original: OpenedCheckpoint): Promise<void>;
  /**
   * Names of matrices that a recommended recipe leaves as they are, since the format has no place for what it would make
   * of them (rows that no group divides); where formats have no answer of their own.
   */
  spared?(recipe: Recipe, original: OpenedCheckpoint): Promise<readonly string[]>;
  /** The engine that sees all positions where a model has a window; undefined where windows are computed. */
  readonly withoutWindows?: string | undefined;
  /**
   * Before the work too: whether it stores these values to the bit.
   * @throws LapidaryError on what it does not hold so, saying what would fit
   */
  holds(encoding: Encoding, target: Target, recipe: Recipe): void;
  /** @throws LapidaryError with exit code verification when the written file does not compute what the model does */
  write(job: Job): Promise<Written>;
  card(facts: CardFacts): CardFormat;
}

/** What the model loses on the evaluation text, against the original. */
export function lossOf(job: Job, opened: Opened): Promise<Evaluation> {
  const { recipe, original, compressed, texts } = job;
  // Predictions of other words cannot be compared token by token.
  const against = sameWords(original.model, compressed) ? original : undefined;
  return job.remember('evaluate', () =>
    measureOpened(opened, against, texts.evaluation!, { ...job, seed: recipe.seed, details: true }),
  );
}

/** The same of one model in several files: see `measureRivals`. */
export function lossOfRivals(
  job: Job,
  rivals: readonly Opened[],
  choose: (kl: readonly number[]) => number,
): Promise<Taken> {
  const { recipe, original, texts } = job;
  return job.remember('evaluate rivals', () =>
    measureRivals(rivals, original, texts.evaluation!, { ...job, seed: recipe.seed, details: true, choose }),
  );
}

/** How fast the original and the written file run, the same way; undefined where their engine is not there. */
export async function speedsOf(job: Job, { race, file }: Written): Promise<Speeds | undefined> {
  if (!race) return undefined;
  const { original, folder, session, progress, signal } = job;
  const options = { ...session, signal, prompt: Math.min(128, Math.floor(original.context / 2)), tokens: 32 };
  progress({ phase: 'measure speed', done: 0, total: 2 });
  const before = await race.measure(await race.writeOriginal(), options);
  progress({ phase: 'measure speed', done: 1, total: 2 });
  return {
    engine: race.engine,
    original: before,
    compressed: await race.measure(join(folder, file.path), options),
  };
}

/** How a matrix is stored in a format: three bits in four only where it has no room for three, floats of its own type. */
export function labelIn(
  { storedBits, floats }: Format,
  { label, description, tensors }: Encoding,
  written: Recipe['export'],
): string {
  const { kind, bits } = description;
  if (kind === 'dense') return floats(written) ?? label;
  if (kind !== 'grouped' || typeof bits !== 'number') return label;
  const stored = storedBits({ bits, zeroPoints: tensors.has('zeros'), roundedInputs: false });
  return stored === bits ? label.replace(' stored in 4', '') : label;
}

/** What to say where products of a kind that the file has are known to be slower than those of floats. */
export function knownSlow(encodings: Iterable<Encoding>): string | undefined {
  const reason = [...encodings].find(({ slow }) => slow)?.slow;
  return reason && `Slower than the original: ${reason}.`;
}

/** What to say where a file was measured to run slower than its original. */
export function measuredSlow(speeds: Speeds | undefined): string | undefined {
  if (!speeds) return undefined;
  const { original, compressed } = speeds;
  const parts = (
    [
      ['reads prompts', compressed.prefillTokensPerSecond, original.prefillTokensPerSecond],
      ['generates', compressed.decodeTokensPerSecond, original.decodeTokensPerSecond],
    ] as const
  ).flatMap(([what, rate, before]) =>
    isSlower(rate, before) ? [`${what} at ${(rate / before).toFixed(2)} times`] : [],
  );
  if (parts.length === 0) return undefined;
  return `Slower than the original: ${parts.join(' and ')} its tokens a second.`;
}
