/** What the methods that compensate errors column by column share: their order, the factor, errors of earlier blocks. */

import { LapidaryError } from '../../base/errors.ts';
import { checkFiniteMatrix } from '../../base/finite.ts';
import type { Area, KernelName, Kernels } from '../../kernels/kernels.ts';
import type { FactorBlock, ReadRow } from './factor.ts';
import { factorize } from './factor.ts';
import type { Products } from './products.ts';
import type { Tiles } from './tiles.ts';

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

/** How the columns of a block are rounded. */
export interface Rounding {
  /** One that takes the block, the two parameters, codes and `last`, as kernels/compensate.ts does. */
  readonly kernel: KernelName;
  /** What is the same for every block: scales [groups, stride], and what else there is to know. */
  readonly parameters: readonly [number, number];
  readonly last?: number;
  /** Of the columns; their own where it is not given. */
  readonly order: Int32Array | undefined;
  /** Columns of a group. */
  readonly length: number;
  /** Fits the groups of `count` columns from `start` on, which are at `at`; without it the parameters stand. */
  readonly fit?: ((at: number, start: number, count: number) => void) | undefined;
}

/** @returns codes, uint8 [columns, stride], in the order in which the columns were rounded */
export async function compensateBlocks(
  { kernels, engine }: Tools,
  { columns, stride, weights }: Tiles,
  blocks: readonly FactorBlock[],
  { kernel, parameters, last = 0, order, length, fit }: Rounding,
): Promise<Area> {
  const natural = kernels.floats(weights);
  // Weights of blocks to come and, in their place, errors of blocks that are done: a prefix the engine can read.
  const state = engine.reserve(columns * stride);
  if (order) {
    for (let line = 0; line < columns; line++) {
      const from = order[line] * stride;
      state.set(natural.subarray(from, from + stride), line * stride);
    }
  } else state.set(natural);
  const size = blocks[0].end;
  const updated = engine.reserve(size * stride);
  const codes = kernels.reserve(columns * stride);
  const [current, origin] = [kernels.reserve(size * stride * 4), kernels.reserve(size * stride * 4)];
  const groupRows = kernels.reserve(size * 4);
  const rowOf = kernels.ints(groupRows);
  for (const { start, end, inverse, pitch, feedback } of blocks) {
    const count = end - start;
    const before = state.subarray(start * stride, end * stride);
    const now = await withErrors(engine, { start, end, feedback }, state, updated, stride);
    kernels.floats(current).set(now);
    kernels.floats(origin).set(before);
    fit?.(current.at, start, count);
    for (let i = 0; i < count; i++) rowOf[i] = Math.floor((order ? order[start + i] : start + i) / length);
    const block = [current.at, origin.at, count, stride, inverse.at, pitch, groupRows.at];
    kernels.run(kernel, stride / 16, 64 * count, ...block, ...parameters, codes.at + start * stride, last);
    before.set(kernels.floats(origin).subarray(0, count * stride));
  }
  return codes;
}
