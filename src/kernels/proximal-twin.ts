/** kernels/proximal.ts again, one group at a time in plain TypeScript; see twins.ts. */

import { roundEven } from '../base/round.ts';

export interface Affine {
  readonly scale: number;
  /** Any number: w = (code - zero) * scale. */
  readonly zero: number;
}

export interface ProximalOptions {
  /** The largest code. */
  readonly top: number;
  readonly beta: number;
  readonly power: number;
  /** Whether the scale is fitted, too. */
  readonly both: boolean;
}

export function proximalStart(values: Float32Array, top: number): Affine {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) return { scale: 1, zero: (top + 1) / 2 - low };
  const scale = (high - low) / top;
  return { scale, zero: -low / scale };
}

export const proximalCode = (value: number, { scale, zero }: Affine, top: number): number =>
  Math.min(Math.max(roundEven(value / scale + zero), 0), top);

/** @returns the parameters one step on, and the sum of |w' - w| before it */
export function proximal(
  values: Float32Array,
  { scale, zero }: Affine,
  { top, beta, power, both }: ProximalOptions,
): Affine & { readonly error: number } {
  const codes = Array.from(values, (value) => proximalCode(value, { scale, zero }, top));
  let error = 0;
  const targets = codes.map((code, i) => {
    const off = values[i] - (code - zero) * scale;
    const size = Math.abs(off);
    error += size;
    const shrunk = size === 0 ? 0 : Math.sign(off) * Math.max(size - size ** (power - 1) / beta, 0);
    return values[i] - shrunk;
  });
  const mean = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length;
  const [code, target] = [mean(codes), mean(targets)];
  const spread = mean(codes.map((each) => (each - code) ** 2)) * codes.length;
  const slope = codes.reduce((sum, each, i) => sum + (each - code) * (targets[i] - target), 0) / spread;
  const next = both && spread > 0.5 && slope > 0.1 * scale ? slope : scale;
  return { scale: next, zero: code - target / next, error };
}
