/**
 * HQQ, half-quadratic quantization (Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models";
 * mobiusml/hqq): scales and zero points of least |w' - w|^p, p < 1, so that single weights that lie far off do not pull
 * their group along. Two steps take turns:
 *   e = sign(r) max(|r| - |r|^(p - 1) / beta, 0),   r = w - w',   then   z = mean(code - (w - e) / s),
 * and beta grows. The authors leave s as it is; here it is fitted as well, by least squares. The zero points are no codes:
 * rounded to codes they are no better than plain rounding's (relative output error of the goldens at 4 bits: 0.0936, 0.1014
 * with rounded zero points, 0.0970 for plain rounding with the best range).
 */

import { z } from 'zod';
import { checkFiniteMatrix } from '../../base/finite.ts';
import { halfCode, halfValue } from '../../base/half.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { PackedCodes } from '../../encodings/grouped.ts';
import { groupsOf } from '../../encodings/grouped.ts';
import { shifted } from '../../encodings/shifted.ts';
import type { Area, Kernels } from '../../kernels/kernels.ts';
import { withKernels } from '../../kernels/kernels.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';
import type { Matrix } from '../../contract/statistic.ts';
import { gridOptions } from '../../rounding/options.ts';
import type { Parameters, Tiles } from '../../rounding/tiles.ts';
import { collect, groupLength, reserveParameters, rowMajor, toTiles } from '../../rounding/tiles.ts';

const options = z.strictObject({
  bits: gridOptions.bits,
  group: gridOptions.group,
  scales: z
    .enum(['float16', 'float32'])
    .default('float16')
    .describe('Type that scales and offsets are rounded to.'),
  fitScale: z.boolean().default(false).describe('Fits scales as well as zero points; the authors do not.'),
  power: z.number().min(0.1).max(1).default(0.7).describe('Exponent p of the error |w - q|^p.'),
  beta: z.number().min(0.1).max(1e6).default(10).describe('How little is taken for an outlier, at first.'),
  growth: z.number().min(1).max(2).default(1.01).describe('Factor of beta from one iteration to the next.'),
  iterations: z
    .int()
    .min(1)
    .max(1000)
    .default(20)
    .describe('Most iterations; they end when the error no longer falls.'),
});
export type HqqOptions = z.infer<typeof options>;

const compress = async (weight: Matrix, choice: HqqOptions): Promise<Encoding> => {
  const { codes, offsets } = await solve(weight, choice);
  return shifted(codes, offsets);
};

export const hqq: LinearMethod<HqqOptions> & Named<'hqq', typeof options> = {
  shape: 'linear',
  name: 'hqq',
  summary:
    'HQQ (mobiusml, 2023): fits zero points and scales to most of the weights, outliers aside; needs no data.',
  options,
  statistic: () => 'none',
  compress: (weight, _statistic, choice) => compress(weight, choice),
  plain: compress,
};

/** Weights that are in the kernels' memory at once: rows are independent but for when the iterations end. */
const mostWeights = 2 ** 24;

interface Solved {
  readonly codes: Omit<PackedCodes, 'zeros'>;
  /** [rows, groups]: what every weight of the group has added. */
  readonly offsets: Float32Array;
}

/** @param threads see `withKernels` */
export async function solve(
  { rows, columns, values }: Matrix,
  choice: HqqOptions,
  threads?: number,
): Promise<Solved> {
  const { bits, group } = choice;
  checkFiniteMatrix('weights', values, columns);
  const atOnce = Math.max(16, Math.floor(mostWeights / columns / 16) * 16);
  const groups = groupsOf({ columns, group });
  const [scales, offsets] = [new Float32Array(rows * groups), new Float32Array(rows * groups)];
  let packed = new Uint8Array(0);
  for (let row = 0; row < rows; row += atOnce) {
    const count = Math.min(atOnce, rows - row);
    const part = values.subarray(row * columns, (row + count) * columns);
    const found = await withKernels((kernels) => solveRows(kernels, part, count, columns, choice), threads);
    const rowBytes = found.codes.packed.length / count;
    if (row === 0) packed = new Uint8Array(rows * rowBytes);
    packed.set(found.codes.packed, row * rowBytes);
    scales.set(found.codes.scales, row * groups);
    offsets.set(found.offsets, row * groups);
  }
  return { codes: { rows, columns, bits, group, packed, scales }, offsets };
}

function solveRows(
  kernels: Kernels,
  values: Float32Array,
  rows: number,
  columns: number,
  choice: HqqOptions,
): Solved {
  const tiles = toTiles(kernels, values, rows, columns);
  const { stride, weights } = tiles;
  const groups = groupsOf({ columns, group: choice.group });
  const parameters = reserveParameters(kernels, groups, stride);
  const items = (groups * stride) / 16;
  const layout = [weights.at, columns, stride, groupLength(choice, columns)];
  const places = [parameters.scales.at, parameters.zeros.at];
  const top = 2 ** choice.bits - 1;
  kernels.run('proximalStart', items, 0, ...layout, ...places, top);
  iterate(kernels, tiles, groups, choice, (errors, beta) => {
    const { power, fitScale } = choice;
    kernels.run('proximal', items, 0, ...layout, ...places, errors.at, top, beta, power, Number(fitScale));
  });
  const moved = represented(kernels, parameters, choice);
  const codes = kernels.reserve(columns * stride);
  kernels.run('proximalCodes', items, 0, ...layout, ...places, codes.at, top);
  const { bits, group, scales } = choice;
  const grid = { bits, group, symmetric: true, range: 'minmax', scales } as const;
  const { zeros: _, ...found } = collect(kernels, tiles, grid, codes, parameters);
  return { codes: found, offsets: rowMajor(moved, new Float32Array(rows * groups), rows, stride) };
}

/** Until the mean error of all weights no longer falls, as the authors do. */
function iterate(
  kernels: Kernels,
  { columns, rows, stride }: Tiles,
  groups: number,
  { beta, growth, iterations }: HqqOptions,
  step: (errors: Area, beta: number) => void,
): void {
  const errors = kernels.reserve(groups * stride * 4);
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < iterations; i++) {
    step(errors, beta * growth ** i);
    let sum = 0;
    for (const error of kernels.floats(errors)) sum += error;
    const mean = sum / (rows * columns);
    if (mean >= least) return;
    least = mean;
  }
}

/**
 * Rounds scales to their type, and the zero points so that the offsets are of it as well.
 * @returns offsets [groups, stride]: of the middle code
 */
function represented(
  kernels: Kernels,
  parameters: Parameters,
  { bits, scales: type }: HqqOptions,
): Float32Array {
  const [scales, zeros] = [kernels.floats(parameters.scales), kernels.floats(parameters.zeros)];
  const middle = 2 ** (bits - 1);
  const half = (value: number) => halfValue(halfCode(value));
  // One that float16 has no normal number for leaves all of the matrix in float32.
  const fits = (scale: number) => half(scale) >= 2 ** -14 && half(scale) <= 65504;
  const narrow = type === 'float16' && scales.every(fits);
  return scales.map((exact, at) => {
    const scale = narrow ? half(exact) : exact;
    const exactOffset = (middle - zeros[at]) * exact;
    const offset = narrow ? half(exactOffset) : Math.fround(exactOffset);
    scales[at] = scale;
    zeros[at] = middle - offset / scale;
    return offset;
  });
}
