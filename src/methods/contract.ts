/**
 * What a compression method is to everybody else. A method's file exports one of these; nothing else in the project
 * names it. (Rewrites and training join when the first of them does.)
 */

import type { z } from 'zod';
import type { Encoding } from '../encodings/encoding.ts';
import type { Configuration } from '../models/model.ts';

/** What the walk can collect of a linear layer's inputs X [tokens, in]. */
export type StatisticKind = 'none' | 'norm' | 'gram';

export interface Statistic {
  readonly tokens: number;
  /** Per-column sum of squares [in]; with "norm" and "gram". */
  readonly squares?: Float32Array | undefined;
  /** X^T X, row-major [in, in]; with "gram". Methods may overwrite it: the walk hands each layer its own. */
  readonly gram?: Float32Array | undefined;
}

export interface LinearMethod<Options = unknown> {
  readonly shape: 'linear';
  /** As recipes and the command line name it: "gptq". */
  readonly name: string;
  /** One sentence with its paper. */
  readonly summary: string;
  /** Every option once: type, default, range and one line of help (`describe`). */
  readonly options: z.ZodType<Options>;
  statistic(options: Options): StatisticKind;
  /** What the options come to for one matrix, where a method does not treat all alike. */
  at?(options: Options, name: string, config: Configuration): Options;
  /** One matrix in, its encoding out; the weight may be overwritten. */
  compress(weight: Matrix, statistic: Statistic, options: Options): Promise<Encoding>;
}

/** A dense matrix, row-major [rows, columns]. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

export type Method = LinearMethod;
