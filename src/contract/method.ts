/**
 * What a compression method is to everybody else. A method's file exports one of these; nothing else in the project
 * names it. A method has one of three shapes: it compresses one matrix (linear), makes another model (rewrite): one that
 * computes the same and compresses better, or one of another structure, or fits matrices together by gradient (train):
 * those of a block while it is compressed, those of a block that others have compressed, or those of the whole model.
 */

import type { z } from 'zod';
import type { Progress } from '../base/progress.ts';
import type { Stored } from '../base/tensor.ts';
import type { Encoding } from '../encodings/encoding.ts';
import type { SessionOptions, Tensor } from '../graph/session.ts';
import type { Configuration, Model } from '../models/model.ts';
import type { Gradients, GradientsAsked } from './gradients.ts';
import type { Matrix, Statistic, StatisticKind } from './statistic.ts';

/** A step of a recipe, as its file has it. */
export type StepInput = Readonly<Record<string, unknown>> & { readonly method: string };

interface Common<Options> {
  /** As recipes and the command line name it: "gptq". */
  readonly name: string;
  /** One sentence with its paper. */
  readonly summary: string;
  /** Every option once: type, default, range and one line of help (`describe`). */
  readonly options: z.ZodType<Options>;
}

export interface LinearMethod<Options = unknown> extends Common<Options> {
  readonly shape: 'linear';
  statistic(options: Options): StatisticKind;
  /** Options by which "squares" are enough, where the method has such: for who has an importance matrix and no text. */
  readonly bySquares?: Partial<Options>;
  /** What the options come to for one matrix, where a method does not treat all alike. */
  at?(options: Options, name: string, config: Configuration): Options;
  /** The share, 0 to 1, by which tokens count by how much predictions hang on what the layer gives for them. */
  fisher?(options: Options): number;
  /** The share of the text, above 0 to 1, on which "cross" is enough; all without it. */
  compared?(options: Options): number;
  /** Whether a block's layers are compressed in the order they run, each fed by those before it. */
  sequential?(options: Options): boolean;
  /**
   * One matrix in, its encoding out; the weight may be overwritten.
   * @throws LapidaryError with row and column of a weight that is not finite
   */
  compress(weight: Matrix, statistic: Statistic, options: Options): Promise<Encoding>;
  /** The same codes by plain rounding, without data, quickly: what rewrites try their choices on. */
  plain?(weight: Matrix, options: Options): Promise<Encoding>;
  /**
   * The same values, to the bit, in another encoding, or the same: of methods that lose nothing. In place of `compress`,
   * for a matrix that is stored already.
   * @throws LapidaryError on what it cannot convert so
   */
  convert?(encoding: Encoding, options: Options): Encoding;
}

/** What a rewrite or a training changes; all else stays as it is. */
export interface Changes {
  readonly matrices: ReadonlyMap<string, Encoding>;
  readonly vectors: ReadonlyMap<string, Stored>;
}

interface Rewriting<Options> extends Common<Options> {
  /**
   * Whether it hands on the encodings of matrices as they are (removing whole layers does, and so does changing norms
   * alone), and so may come after what made them. Without it a recipe that has it there is refused.
   */
  readonly keepsEncodings?: boolean;
}

/** A rewrite that looks at one block at a time, inside the walk, before the block's matrices are compressed. */
export interface BlockRewrite<Options = unknown> extends Rewriting<Options> {
  readonly shape: 'rewrite';
  readonly scope: 'block';
  /** The compressor for a recipe that names none. */
  readonly followedBy: StepInput;
  /** Of the inputs of every linear layer of the block. */
  statistic(options: Options): StatisticKind;
  rewrite(block: Block, options: Options): Promise<Changes>;
}

export interface Block {
  /** With the weights as earlier steps have left them. */
  readonly model: Model;
  readonly layer: number;
  /** By the matrix's name; not to be overwritten. */
  readonly statistics: ReadonlyMap<string, Statistic>;
  /** What a matrix will be after plain rounding by the method that comes after; undefined where none is to come. */
  readonly rounded: (name: string, weight: Matrix) => Promise<Float32Array | undefined>;
  readonly signal?: AbortSignal | undefined;
}

/** A rewrite of the whole model. */
export interface ModelRewrite<Options = unknown> extends Rewriting<Options> {
  readonly shape: 'rewrite';
  readonly scope: 'model';
  /**
   * What becomes another. "weights": values alone, so that the model computes the same and compresses better; it comes
   * before what compresses. "structure": layers, heads, widths, the vocabulary with the tokenizer's files, what shares a
   * matrix; the model computes something else, and the method may stand anywhere (behind a compressor if it keeps encodings).
   */
  readonly changes: 'weights' | 'structure';
  /**
   * Whether a run that was killed makes it again. Without it everything that the method has changed (matrices, vectors,
   * files; of what it only renames or takes away nothing) lies in the journal until the run's end, as large as the method
   * made it. For what takes less time than a whole model in floats takes room; what is long of such work it may
   * `remember`. A result of another architecture is made again in any case.
   */
  readonly repeats?: boolean;
  /** The compressor for a recipe that names none; without it the rewrite is enough by itself. */
  readonly followedBy?: StepInput;
  /** Whether it needs calibration text. */
  needsText(options: Options): boolean;
  rewrite(model: Model, options: Options, context: RewriteContext): Promise<Model>;
}

/** What methods that see the whole model may ask for; nothing of it is computed before they do. */
interface ModelContext {
  readonly seed: number;
  readonly session: Pick<SessionOptions, 'device' | 'threads'>;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
  /**
   * How predictions on the calibration text hang on the model as it was given to the method.
   * @throws LapidaryError where there is no text, or a gradient is not finite
   */
  gradients(asked: GradientsAsked): Promise<Gradients>;
  /** Text that the model, as it was given to the method, writes by itself: token ids, all of one length. */
  samples(asked: SamplesAsked): Promise<readonly Int32Array[]>;
  /**
   * What is long of the method's work and small in what it gives: a run that was killed does not make it again.
   * @param name of this work; one of a kind within the method
   * @param make gives the same tensors whenever it is called
   */
  remember(name: string, make: () => Promise<Remembered>): Promise<Remembered>;
}

/** By names of the method's choice. */
export type Remembered = ReadonlyMap<string, Stored>;

export interface SamplesAsked {
  readonly count: number;
  /** Tokens of a sequence; as many as the model's context has where that is shorter. */
  readonly length: number;
}

export interface RewriteContext extends ModelContext {
  /** Of calibration; token ids, all of one length; empty where there is no text. */
  readonly sequences: readonly Int32Array[];
  /** What a matrix will be after plain rounding by the method that comes after; undefined where none is to come. */
  readonly rounded: (name: string, weight: Matrix) => Promise<Float32Array | undefined>;
}

/** Compresses all matrices of a block together, so that the block computes what it did. */
export interface TrainMethod<Options = unknown> extends Common<Options> {
  readonly shape: 'train';
  readonly scope: 'block';
  /** The share, 0 to 1, by which tokens count by how much predictions hang on what the block gives for them. */
  fisher?(options: Options): number;
  /** Calibration sequences, of so many tokens, that are run at once. */
  batch(options: Options, length: number): number;
  train(block: TrainedBlock, options: Options): Promise<ReadonlyMap<string, Encoding>>;
  /** As of a linear method; what matrices outside of blocks are compressed by, too. */
  plain(weight: Matrix, options: Options): Promise<Encoding>;
}

export interface TrainedBlock {
  /** With the weights as rewrites have left them. */
  readonly model: Model;
  readonly layer: number;
  /** The matrices to compress. */
  readonly names: readonly string[];
  /** Hidden states [rows, time, hidden] in batches: what the compressed model feeds the block. */
  readonly inputs: readonly Tensor[];
  /** What the original block makes of what the original model feeds it, batch by batch. */
  readonly targets: readonly Tensor[];
  /** Of the tokens, one batch after the other, 1 on average; where the method asks for it. */
  readonly importance?: Float32Array | undefined;
  readonly seed: number;
  readonly session: Pick<SessionOptions, 'device' | 'threads'>;
  /** Told after each step: done of total. */
  readonly step: (done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Trains what a block leaves to choose whose matrices are compressed, inside the walk: the bytes stay as many. */
export interface BlockTraining<Options = unknown> extends Common<Options> {
  readonly shape: 'train';
  readonly scope: 'compressed block';
  /** The share, 0 to 1, by which errors count by what they do to predictions. */
  fisher(options: Options): number;
  /** Calibration sequences, of so many tokens, that are run at once. */
  batch(options: Options, length: number): number;
  /**
   * It names what it trains of the block itself: weights, scales, norms, other vectors (`src/train/trainable.ts`).
   * @returns what changed
   */
  train(block: CompressedBlock, options: Options): Promise<Changes>;
}

export interface CompressedBlock extends Omit<TrainedBlock, 'importance'> {
  /** The block's matrices before they were compressed, by name; `model` has them compressed. */
  readonly before: ReadonlyMap<string, Encoding>;
  /**
   * How predictions hang on what the block gives: the mean of g g^T, row-major [hidden, hidden], g being the gradient of
   * the predictions by a token's hidden state (their Fisher information); where the method asks for it.
   */
  readonly metric?: Float32Array | undefined;
}

/** Trains a model end to end, so that it predicts what the original does: what is left to choose when all is compressed. */
export interface ModelTraining<Options = unknown> extends Common<Options> {
  readonly shape: 'train';
  readonly scope: 'model';
  /** Calibration sequences of a step. */
  batch(options: Options): number;
  /** @param teacher the model before the recipe's first step */
  train(student: Model, teacher: Model, options: Options, context: TrainingContext): Promise<Changes>;
}

export interface TrainingContext extends ModelContext {
  /** Of calibration; token ids, all of one length; at least one. */
  readonly sequences: readonly Int32Array[];
}

/** Compresses matrices, one at a time or a block's together. */
export type Compressor = LinearMethod | TrainMethod;
export type Rewrite = BlockRewrite | ModelRewrite;
export type Method = Compressor | Rewrite | BlockTraining | ModelTraining;

/** Methods that say the same function with less in one way; a folder of `src/methods`. */
export interface Family {
  /** As its folder: "quantize". */
  readonly name: string;
  /** For people: "Quantization". */
  readonly title: string;
  /** The plainest of its methods, which no other may be worse than at the same size. */
  readonly baseline: Method;
  readonly methods: readonly Method[];
}

/**
 * What a method adds to its shape, so that recipes are typed by it: its name as a literal, and the schema that its options
 * are checked by: `LinearMethod<Options> & Named<'gptq', typeof options>`.
 */
export interface Named<Name extends string, Schema extends z.ZodType> {
  readonly name: Name;
  readonly options: Schema;
}

/** What a recipe's step says besides the method: its options by their schema, and targets where it compresses matrices. */
export type StepOptions<M extends Method> = Flat<
  (unknown extends z.input<M['options']> ? Readonly<Record<string, unknown>> : z.input<M['options']>) &
    (M extends { readonly shape: 'linear' } | { readonly shape: 'train'; readonly scope: 'block' }
      ? { readonly targets?: readonly string[] | undefined }
      : unknown)
>;

/** A step of a recipe by a method's name; none where the method's type does not tell it. */
export type StepOf<M extends Method> = M extends Method
  ? string extends M['name']
    ? never
    : Flat<{ readonly method: M['name'] } & StepOptions<M>>
  : never;

/** An intersection as one object, as editors show it. */
type Flat<T> = { [Key in keyof T]: T[Key] };
