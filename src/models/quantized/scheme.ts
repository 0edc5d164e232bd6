/** Schemes of compressed-tensors, as config.json names them for groups of modules. */

import { wrongSetting } from '../settings.ts';

/** How the weights of a group of modules are quantized, of which config.json has names in snake_case. */
export interface WeightScheme {
  readonly bits: number;
  readonly type: 'int' | 'float';
  readonly symmetric: boolean;
  readonly strategy: 'tensor' | 'channel' | 'group' | 'tensor_group' | 'block';
  /** Weights of a row that share a scale; -1 where the strategy is not of groups. */
  readonly group: number;
  /** Rows and columns that share a scale, where the strategy is of blocks. */
  readonly block?: readonly [rows: number, columns: number] | undefined;
}

/** How inputs are quantized. */
export interface InputScheme {
  readonly bits: number;
  readonly type: 'int' | 'float';
  /** Scales of their own for every token, found as it comes; otherwise one scale that is stored. */
  readonly dynamic: boolean;
}

export interface Scheme {
  readonly weights: WeightScheme;
  readonly inputs?: InputScheme | undefined;
}

/** "128x128" or [128, 128]. @throws LapidaryError */
export function blockOf(value: unknown, where: string): readonly [number, number] {
  const sizes = typeof value === 'string' ? value.split('x').map(Number) : value;
  if (
    Array.isArray(sizes) &&
    sizes.length === 2 &&
    sizes.every((size) => Number.isSafeInteger(size) && size > 0)
  )
    return sizes as [number, number];
  throw wrongSetting(where, 'two whole numbers above 0', value);
}
