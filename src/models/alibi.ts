/** Attention with linear biases (ALiBi, Press et al. 2021, arXiv:2108.12409), as a table of what is added to scores. */

import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { AlibiPlan } from './model.ts';

/** Geometric from 2^(-8/n) on, of n heads; where n is no power of two, others are taken from twice as many between them. */
export function alibiSlopes(heads: number): readonly number[] {
  const whole = 2 ** Math.floor(Math.log2(heads));
  const slopes = (count: number) =>
    Array.from({ length: count }, (_, index) => 2 ** ((-8 * (index + 1)) / count));
  const between = slopes(2 * whole).filter((_, index) => index % 2 === 0);
  return [...slopes(whole), ...between].slice(0, heads);
}

/** For every head and position of a key: float32 [heads, positions]. */
export function alibiTable({ slopes, factor = 1, rounded = false }: AlibiPlan, positions: number): Stored {
  const round = rounded ? bfloat16 : (value: number) => value;
  const table = new Float32Array(slopes.length * positions);
  for (const [head, slope] of slopes.entries())
    for (let position = 0; position < positions; position++)
      table[head * positions + position] = factor * round(round(slope) * round(position));
  return stored('float32', [slopes.length, positions], table);
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The nearest number with eight bits of precision, even where two are as near. */
function bfloat16(value: number): number {
  float[0] = value;
  bits[0] += 0x7fff + ((bits[0] >>> 16) & 1);
  bits[0] &= 0xffff0000;
  return float[0];
}
