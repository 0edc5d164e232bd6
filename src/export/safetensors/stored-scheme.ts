/** A matrix as compressed-tensors stores it. */

import type { Stored } from '../../base/tensor.ts';

/** How a matrix is stored: what config.json says of it, and its tensors. */
export interface StoredScheme {
  readonly format: string;
  readonly weights: Readonly<Record<string, unknown>>;
  readonly inputs?: Readonly<Record<string, unknown>> | undefined;
  /** "W4A16" */
  readonly type: string;
  readonly tensors: ReadonlyMap<string, Stored>;
}
