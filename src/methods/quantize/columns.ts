/** What the methods that compensate errors column by column share: their order, the factor, errors of earlier blocks. */

import { LapidaryError } from '../../base/errors.ts';
import { checkFiniteMatrix } from '../../base/finite.ts';
import type { Area, Kernels } from '../../kernels/kernels.ts';
import type { FactorBlock, ReadRow } from './factor.ts';
import { factorize } from './factor.ts';
import type { Products } from './products.ts';

/** What every step works with. */
export interface Tools {
  readonly kernels: Kernels;
  readonly engine: Products;
}

/** Columns by falling diagonal, equal ones in their order. */
export function byDiagonal(gram: Float32Array, n: number): Int32Array {
  const order = Array.from({ length: n }, (_, column) => column);
  return Int32Array.from(order.sort((a, b) => gram[b * n + b] - gram[a * n + a] || a - b));
}

export function inverted(kernels: Kernels, order: Int32Array): Area {
  const area = kernels.reserve(order.byteLength);
  const lines = kernels.ints(area);
  order.forEach((column, line) => {
    lines[column] = line;
  });
  return area;
}

/**
 * Where the matrix is not positive definite in float32, tries again with ten times the damping, up to all of the mean.
 * @throws LapidaryError where even that does not help
 */
export async function factorizeDamped(
  { kernels, engine }: Tools,
  gram: Float32Array,
  mean: number,
  {
    damping,
    size,
    order,
  }: { readonly damping: number; readonly size: number; readonly order: Int32Array | undefined },
): Promise<FactorBlock[]> {
  const n = Math.sqrt(gram.length);
  const read: ReadRow = order
    ? (row, start, end, target, at) => {
        const from = order[row] * n;
        for (let column = start; column < end; column++) target[at++] = gram[from + order[column]];
      }
    : (row, start, end, target, at) => target.set(gram.subarray(row * n + start, row * n + end), at);
  for (let share = damping; ;) {
    const found = await factorize(kernels, engine, n, size, read);
    if (Array.isArray(found)) return found;
    checkFiniteMatrix('values of the Gram matrix', gram, n);
    if (share >= 1) {
      throw new LapidaryError({
        what: 'the Gram matrix is not positive definite, whatever is added to its diagonal',
        where: `column ${found.column}`,
        fix: 'give more calibration text, or use a method that needs none',
      });
    }
    const next = Math.min(Math.max(10 * share, 0.001), 1);
    for (let i = 0; i < n; i++) gram[i * n + i] += (next - share) * mean;
    share = next;
  }
}

/**
 * The weights of a block with the errors of all blocks before it.
 * @param state [columns, stride]: errors of blocks that are done, then weights
 * @param room for the result, where there are errors
 */
export async function withErrors(
  engine: Products,
  { start, end, feedback }: Pick<FactorBlock, 'start' | 'end' | 'feedback'>,
  state: Float32Array,
  room: Float32Array,
  stride: number,
): Promise<Float32Array> {
  const before = { rows: end - start, values: state.subarray(start * stride, end * stride) };
  if (start === 0) return before.values;
  const now = { rows: before.rows, values: room.subarray(0, before.values.length) };
  const errors = { rows: start, values: state.subarray(0, start * stride) };
  await engine.feedback(before, { rows: start, values: feedback }, errors, now);
  return now.values;
}
