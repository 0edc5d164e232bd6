/** What a method is given of one matrix: its values, and a statistic of what it is fed. */

import type { Stored } from '../base/tensor.ts';

/** A dense matrix, row-major [rows, columns]. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  /** May be written to. */
  readonly values: Float32Array;
  /**
   * The same values in the type that they are kept in, where nobody has written to `values` yet; its bytes are valid
   * until the method is done.
   */
  readonly plain?: Stored | undefined;
}

/**
 * What the walk can collect of a linear layer's inputs X [tokens, in]: of each column its squares alone ("squares", which
 * an importance matrix has, too) or all ("norm"), of every two of them ("gram"), or both ("full"). "cross" is "gram" with
 * what the same layer is fed in the original model, "all" is everything.
 */
export type StatisticKind = 'none' | 'squares' | 'norm' | 'gram' | 'full' | 'cross' | 'all';

/** Where a method asks for it (`fisher`), tokens weigh in all products by their importance, which is 1 on average. */
export interface Statistic {
  readonly tokens: number;
  /** Per-column sum of squares [in]; with all kinds but "none". */
  readonly squares?: Float32Array | undefined;
  /** Per-column sum of sizes |x| [in]; with "norm". */
  readonly sizes?: Float32Array | undefined;
  /** Per-column largest size |x| [in]; with "norm". */
  readonly peaks?: Float32Array | undefined;
  /** X^T X, row-major [in, in]; with "gram". Methods may overwrite it: the walk hands each layer its own. */
  readonly gram?: Float32Array | undefined;
  /**
   * X^T (X' - X), row-major [in, in], where X' are the layer's inputs in the original model, before anything was
   * compressed; with "cross". Methods may overwrite it.
   */
  readonly cross?: Float32Array | undefined;
  /** X^T X of the tokens that "cross" is of, where these are not all. */
  readonly comparedGram?: Float32Array | undefined;
}
