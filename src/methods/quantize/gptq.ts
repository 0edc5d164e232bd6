/**
 * GPTQ (Frantar, Ashkboos, Hoefler, Alistarh, 2022, arXiv:2210.17323): columns are rounded one after the other, and
 * what rounding changes in the layer's output is taken back by the columns that follow,
 *   w_F -= (w_q - quant(w_q)) / [H_F^-1]_qq (H_F^-1)_qF,   H = 2 X X^T + damping.
 * Blocks of columns are walked left-looking; see factor.ts for the algebra and kernels/compensate.ts for the block.
 */

import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import { checkFiniteMatrix } from '../../base/finite.ts';
import type { PackedCodes } from '../../encodings/grouped.ts';
import { groupedPacked, groupsOf } from '../../encodings/grouped.ts';
import type { Area, Kernels } from '../../kernels/kernels.ts';
import { withKernels } from '../../kernels/kernels.ts';
import type { LinearMethod, Matrix } from '../contract.ts';
import type { FactorBlock, ReadRow } from './factor.ts';
import { damp, factorize } from './factor.ts';
import { gridOptions } from './options.ts';
import type { Products } from './products.ts';
import { products } from './products.ts';
import type { Parameters, Tiles } from './tiles.ts';
import { collect, fitGroups, groupLength, reserveParameters, toTiles } from './tiles.ts';

const options = z.strictObject({
  ...gridOptions,
  activationOrder: z
    .boolean()
    .default(true)
    .describe(
      'Rounds the columns with the largest inputs first; with groups, their grids are fixed beforehand.',
    ),
  staticGroups: z.boolean().default(false).describe('Fits all groups before the first column is rounded.'),
  damping: z
    .number()
    .min(0)
    .max(1)
    .default(0.01)
    .describe('Share of the mean diagonal that is added to the diagonal.'),
  blockSize: z
    .int()
    .min(16)
    .max(256)
    .multipleOf(16)
    .default(128)
    .describe('Columns between two updates of all that follow; at least a group.'),
});
export type GptqOptions = z.infer<typeof options>;

export const gptq: LinearMethod<GptqOptions> = {
  shape: 'linear',
  name: 'gptq',
  summary:
    'GPTQ (arXiv:2210.17323): rounds column by column, later columns make up for the error of earlier ones.',
  options,
  statistic: () => 'gram',
  async compress(weight, { gram }, choice) {
    if (!gram) throw new LapidaryError({ what: 'gptq needs the Gram matrix of the layer inputs' });
    return groupedPacked(await quantize(weight, gram, choice));
  },
};

/**
 * @param gram X^T X, row-major [columns, columns]; overwritten
 * @param threads see `withKernels`; the result does not depend on it
 */
export async function quantize(
  weight: Matrix,
  gram: Float32Array,
  choice: GptqOptions,
  threads = availableParallelism(),
): Promise<PackedCodes> {
  const { rows, columns } = weight;
  if (gram.length !== columns * columns) {
    throw new LapidaryError({
      what: 'the Gram matrix does not fit the weight',
      expected: `[${columns}, ${columns}]`,
      found: `${gram.length} values for a weight [${rows}, ${columns}]`,
    });
  }
  const engine = await products(threads);
  return withKernels(async (kernels) => {
    try {
      return await roundColumns({ kernels, engine }, weight, gram, choice);
    } finally {
      engine.release();
    }
  }, threads);
}

/** What every step works with. */
export interface Tools {
  readonly kernels: Kernels;
  readonly engine: Products;
}

async function roundColumns(
  tools: Tools,
  { rows, columns, values }: Matrix,
  gram: Float32Array,
  choice: GptqOptions,
): Promise<PackedCodes> {
  const { kernels } = tools;
  const mean = damp(gram, columns, choice.damping);
  const order = choice.activationOrder ? byDiagonal(gram, columns) : undefined;
  const tiles = toTiles(kernels, values, rows, columns);
  const size = Math.max(choice.blockSize, choice.group);
  const blocks = await factorizeDamped(tools, gram, mean, { damping: choice.damping, size, order });

  const length = groupLength(choice, columns);
  const parameters = reserveParameters(kernels, groupsOf({ columns, group: choice.group }), tiles.stride);
  const fixed = choice.group === -1 || choice.staticGroups || choice.activationOrder;
  if (fixed)
    fitGroups(kernels, { at: tiles.weights.at, columns, stride: tiles.stride, length }, choice, parameters);
  const fit: Rounding['fit'] = (at, start, count) =>
    fitGroups(
      kernels,
      { at, columns: count, stride: tiles.stride, length },
      choice,
      parameters,
      start / length,
    );
  const rounding = { order, length, top: 2 ** choice.bits - 1, fit: fixed ? undefined : fit };
  const codes = await compensateBlocks(tools, tiles, blocks, parameters, rounding);
  const found = collect(kernels, tiles, choice, codes, parameters, order && inverted(kernels, order));
  // A weight that is not finite has spoilt its group's scale.
  if (!found.scales.every(Number.isFinite)) checkFiniteMatrix('weights', values, columns);
  return found;
}

/** Columns by falling diagonal, equal ones in their order. */
function byDiagonal(gram: Float32Array, n: number): Int32Array {
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

interface Rounding {
  /** Of the columns; their own where it is not given. */
  readonly order: Int32Array | undefined;
  /** Columns of a group. */
  readonly length: number;
  /** The largest code. */
  readonly top: number;
  /** Fits the groups of `count` columns from `start` on, which are at `at`; without it the parameters stand. */
  readonly fit?: ((at: number, start: number, count: number) => void) | undefined;
}

/** @returns codes, uint8 [columns, stride], in the order in which the columns were rounded */
async function compensateBlocks(
  { kernels, engine }: Tools,
  { columns, stride, weights }: Tiles,
  blocks: readonly FactorBlock[],
  parameters: Parameters,
  { order, length, top, fit }: Rounding,
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
    const grid = [parameters.scales.at, parameters.zeros.at, codes.at + start * stride, top];
    kernels.run('compensate', stride / 16, 64 * count, ...block, ...grid);
    before.set(kernels.floats(origin).subarray(0, count * stride));
  }
  return codes;
}
