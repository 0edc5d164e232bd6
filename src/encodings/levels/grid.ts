/**
 * The scale of a group of weights in a number format, one number at a time: what the kernel `fitLevels` computes in
 * tiles and is held against, and what fits a scale to a whole matrix.
 */

import type { RangeRule } from '../grid.ts';
import type { NumberFormat } from './numbers.ts';
import { storedScale } from './numbers.ts';
import { nearestLevel } from './table.ts';

export interface ScaleChoice {
  /** The plain scale (minmax), or the one of some shares of it that has the least squared error (mse). */
  readonly range: RangeRule;
  /** What scales are stored in that are floats. */
  readonly floats: 'float16' | 'float32';
  /** What stored E4M3 scales are divided by. */
  readonly factor: number;
}

const { fround } = Math;

/** The scale of these weights; 1, or what the format has for it, where all are 0. */
export function fitScale(format: NumberFormat, values: Float32Array, choice: ScaleChoice): number {
  const size = format.statistic === 'mean' ? mean(values) : largest(values);
  const plain = size === 0 ? 1 : fround(size / format.divisor);
  let best = storedScale(format.scale, plain, choice);
  if (choice.range === 'minmax' || size === 0) return best;
  let least = Number.POSITIVE_INFINITY;
  for (const share of format.shares) {
    const scale = storedScale(format.scale, fround(plain * share), choice);
    const error = squaredError(format, values, scale);
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

function squaredError({ table }: NumberFormat, values: Float32Array, scale: number): number {
  let sum = 0;
  for (const value of values) {
    const level = table.levels[nearestLevel(table, fround(value / scale))];
    sum += fround(fround(level * scale) - value) ** 2;
  }
  return sum;
}

export function largest(values: Float32Array): number {
  let most = 0;
  for (const value of values) if (Math.abs(value) > most) most = Math.abs(value);
  return most;
}

function mean(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += Math.abs(value);
  return fround(sum / values.length);
}
