/** What the methods that compensate errors column by column share: their order, the factor, errors of earlier blocks. */

import { LapidaryError } from '../base/errors.ts';
import { checkFiniteMatrix } from '../base/finite.ts';
import type { Area, KernelName, Kernels } from '../kernels/kernels.ts';
import { withKernels } from '../kernels/kernels.ts';
import type { Matrix } from '../contract/statistic.ts';
import type { FactorBlock, ReadRow } from './cholesky.ts';
import { factorize } from './cholesky.ts';
import type { Products } from './products.ts';
import { products } from './products.ts';
import type { Tiles } from '../rounding/tiles.ts';

/** What every step works with. */
export interface Tools {
  readonly kernels: Kernels;
  readonly engine: Products;
}

/**
 * Lends kernels and engine; what they reserved is given back at the end.
 * @param threads see `withKernels`
 */
export async function withTools<T>(threads: number, work: (tools: Tools) => Promise<T>): Promise<T> {
  const engine = await products(threads);
  return withKernels(async (kernels) => {
    try {
      return await work({ kernels, engine });
    } finally {
      engine.release();
    }
  }, threads);
}

/** @throws LapidaryError where a Gram matrix is none of the weight's inputs */
export function checkGram({ rows, columns }: Pick<Matrix, 'rows' | 'columns'>, gram: Float32Array): void {
  if (gram.length === columns * columns) return;
  throw new LapidaryError({
    what: 'the Gram matrix does not fit the weight',
    expected: `[${columns}, ${columns}]`,
    found: `${gram.length} values for a weight [${rows}, ${columns}]`,
  });
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
 * The weights, column after column as they are rounded: [columns, stride], in the engine's memory.
 * @param order of the columns; their own where it is not given
 */
export function inOrder(
  { kernels, engine }: Tools,
  { columns, stride, weights }: Tiles,
  order: Int32Array | undefined,
): Float32Array {
  const natural = kernels.floats(weights);
  const state = engine.reserve(columns * stride);
  if (!order) state.set(natural);
  else
    order.forEach((column, line) => {
      state.set(natural.subarray(column * stride, (column + 1) * stride), line * stride);
    });
  return state;
}

/** What is rounded together: a block's columns with the errors of all earlier blocks taken out, and as they were. */
export interface BlockInWork extends FactorBlock {
  readonly count: number;
  /** [count, stride] each; rounding puts the errors in place of `origin`. */
  readonly current: Area;
  readonly origin: Area;
}

/**
 * Goes from block to block, feeding errors forward.
 * @param state [columns, stride]: weights; as blocks are done, their errors in their place, a prefix the engine can read
 */
export async function overBlocks(
  { kernels, engine }: Tools,
  blocks: readonly FactorBlock[],
  state: Float32Array,
  stride: number,
  round: (block: BlockInWork) => void,
): Promise<void> {
  const most = blocks[0].end * stride;
  const updated = engine.reserve(most);
  const [current, origin] = [kernels.reserve(4 * most), kernels.reserve(4 * most)];
  for (const block of blocks) {
    const before = state.subarray(block.start * stride, block.end * stride);
    kernels.floats(current).set(await withErrors(engine, block, state, updated, stride));
    kernels.floats(origin).set(before);
    round({ ...block, count: block.end - block.start, current, origin });
    before.set(kernels.floats(origin).subarray(0, before.length));
  }
}

/**
 * The weights of a block with the errors of all blocks before it.
 * @param room for the result, where there are errors
 */
async function withErrors(
  engine: Products,
  { start, end, feedback }: FactorBlock,
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
  tools: Tools,
  tiles: Tiles,
  blocks: readonly FactorBlock[],
  { kernel, parameters, last = 0, order, length, fit }: Rounding,
): Promise<Area> {
  const { kernels } = tools;
  const { columns, stride } = tiles;
  const state = inOrder(tools, tiles, order);
  const codes = kernels.reserve(columns * stride);
  const groupRows = kernels.reserve(blocks[0].end * 4);
  const rowOf = kernels.ints(groupRows);
  await overBlocks(tools, blocks, state, stride, ({ start, count, inverse, pitch, current, origin }) => {
    fit?.(current.at, start, count);
    for (let i = 0; i < count; i++) rowOf[i] = Math.floor((order ? order[start + i] : start + i) / length);
    const block = [current.at, origin.at, count, stride, inverse.at, pitch, groupRows.at];
    kernels.run(kernel, stride / 16, 64 * count, ...block, ...parameters, codes.at + start * stride, last);
  });
  return codes;
}
