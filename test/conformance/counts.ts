/** How many parameters methods take away, from the sizes of a model alone: what conformance counts is held against it. */

import type { Family } from '../../src/contract/method.ts';
import type { writeTinyCheckpoint } from '../models/checkpoint.ts';
import type { Configuration, LayerPlan } from '../../src/models/model.ts';

/** A family of the tests, with the parameters that each of its methods adds to a Llama by its defaults, exactly. */
export interface CountedFamily extends Family {
  /** By the method's name; those that are not here change none. */
  readonly adds: Readonly<Record<string, (config: Configuration) => number>>;
  /** What config.json says of the model that its methods are tried on, where that is no Llama. */
  readonly tried?: Parameters<typeof writeTinyCheckpoint>[1];
}

type Plan = Pick<LayerPlan, 'heads' | 'keyValueHeads' | 'headSize' | 'intermediate'>;

/** Shapes [rows, columns] of what attends: queries, keys, values, output. */
export const attentionOf = (hidden: number, { heads, keyValueHeads, headSize }: Omit<Plan, 'intermediate'>) =>
  [
    [heads * headSize, hidden],
    [keyValueHeads * headSize, hidden],
    [keyValueHeads * headSize, hidden],
    [hidden, heads * headSize],
  ] as const;

/** Of what feeds forward: gate, up, down. */
export const feedForwardOf = (hidden: number, { intermediate }: Pick<Plan, 'intermediate'>) =>
  [
    [intermediate, hidden],
    [intermediate, hidden],
    [hidden, intermediate],
  ] as const;

export const weightsIn = (shapes: readonly (readonly [number, number])[]): number =>
  shapes.reduce((sum, [rows, columns]) => sum + rows * columns, 0);
