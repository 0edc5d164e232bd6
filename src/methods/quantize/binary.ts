/**
 * One bit a weight: its sign, times a scale for its group (Rastegari et al. 2016, XNOR-Net, arXiv:1603.05279); with a
 * second plane, the sign of what the first leaves (the residual of BiLLM, Huang et al. 2024, arXiv:2402.04291). Scales
 * and signs are fitted in turn (Li et al. 2024, ARB-LLM, arXiv:2410.03129), and columns that follow make up for what is
 * lost, as in GPTQ.
 */

import { z } from 'zod';
import { LapidaryError } from '../../base/errors.ts';
import { checkFiniteMatrix } from '../../base/finite.ts';
import { defaultThreads } from '../../base/threads.ts';
import { binary as signPlanes } from '../../encodings/binary.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { groupSizes, groupsOf } from '../../encodings/grouped.ts';
import { storedScale } from '../../encodings/levels/numbers.ts';
import type { LinearMethod, Named } from '../../contract/method.ts';
import type { Matrix } from '../../contract/statistic.ts';
import type { Tools } from '../../compensate/columns.ts';
import {
  byDiagonal,
  checkGram,
  compensateBlocks,
  factorizeDamped,
  withTools,
} from '../../compensate/columns.ts';
import { damp } from '../../compensate/cholesky.ts';
import { groupAt, groupLength, toTiles } from '../../rounding/tiles.ts';
import { damping } from '../../rounding/options.ts';

const options = z.strictObject({
  planes: z
    .union([z.literal(1), z.literal(2)])
    .default(2)
    .describe('Signs of a weight: its own (1), and that of what this leaves (2).'),
  group: z
    .literal([-1, ...groupSizes])
    .default(64)
    .describe('Weights along a row that share a scale; -1 for the whole row.'),
  damping,
});
export type BinaryOptions = z.infer<typeof options>;

/** Columns between two updates of all that follow. */
const blockSize = 128;
/** Times that scales and signs are fitted in turn, at most. */
const rounds = 10;

export const binary: LinearMethod<BinaryOptions> & Named<'binary', typeof options> = {
  shape: 'linear',
  name: 'binary',
  summary:
    'Binary (arXiv:1603.05279, 2402.04291): one or two signs a weight, later columns make up for the error of earlier ones.',
  options,
  statistic: () => 'gram',
  async compress(weight, { gram }, choice) {
    if (!gram) throw new LapidaryError({ what: 'binary needs the Gram matrix of the layer inputs' });
    return compensateSigns(weight, gram, choice);
  },
  plain: roundToSigns,
};

/** Every weight takes the nearest of its group's two or four values. @throws LapidaryError on weights not finite */
export async function roundToSigns(weight: Matrix, choice: BinaryOptions): Promise<Encoding> {
  const { columns, values } = weight;
  const scales = fitScales(weight, choice);
  const [first] = scales;
  const size = groupLength(choice, columns);
  const codes = Uint8Array.from(values, (value, at) => codeOf(value, first[groupAt(at, columns, size)]));
  return encoded(weight, choice, scales, (row, column) => codes[row * columns + column]);
}

/**
 * Column by column, those with the largest inputs first; later ones make up for the error of earlier ones.
 * @param gram X^T X, row-major [columns, columns]; overwritten
 * @param threads see `withKernels`; the result does not depend on it
 * @throws LapidaryError where the Gram matrix is none, and on weights that are not finite
 */
export async function compensateSigns(
  weight: Matrix,
  gram: Float32Array,
  choice: BinaryOptions,
  threads = defaultThreads(),
): Promise<Encoding> {
  checkGram(weight, gram);
  const scales = fitScales(weight, choice);
  return withTools(threads, (tools) => roundColumns(tools, weight, gram, choice, scales));
}

async function roundColumns(
  tools: Tools,
  weight: Matrix,
  gram: Float32Array,
  choice: BinaryOptions,
  scales: Scales,
): Promise<Encoding> {
  const { kernels } = tools;
  const { rows, columns, values } = weight;
  const { damping, group } = choice;
  const mean = damp(gram, columns, damping);
  const order = byDiagonal(gram, columns);
  const tiles = toTiles(kernels, values, rows, columns);
  const { stride } = tiles;
  const blocks = await factorizeDamped(tools, gram, mean, { damping, size: blockSize, order });
  const groups = groupsOf({ columns, group });
  const [first, second] = scales.map((plane) => {
    const area = kernels.reserve(groups * stride * 4);
    const turned = kernels.floats(area).fill(0);
    plane.forEach((scale, at) => {
      turned[(at % groups) * stride + Math.floor(at / groups)] = scale;
    });
    return area.at;
  });
  const codes = await compensateBlocks(tools, tiles, blocks, {
    kernel: 'compensateSigns',
    parameters: [first, second],
    order,
    length: groupLength(choice, columns),
  });
  const found = kernels.bytes(codes);
  const lines = new Int32Array(columns);
  order.forEach((column, line) => {
    lines[column] = line;
  });
  return encoded(weight, choice, scales, (row, column) => found[lines[column] * stride + row]);
}

/** Of the first plane and the second, [rows, groups]; the second's are 0 where there is but one. */
type Scales = readonly [Float32Array, Float32Array];

function fitScales({ rows, columns, values }: Matrix, { planes, group }: BinaryOptions): Scales {
  checkFiniteMatrix('weights', values, columns);
  const size = groupLength({ group }, columns);
  const groups = groupsOf({ columns, group });
  const scales: Scales = [new Float32Array(rows * groups), new Float32Array(rows * groups)];
  for (let at = 0; at < rows * groups; at++) {
    const start = Math.floor(at / groups) * columns + (at % groups) * size;
    const end = Math.min(start + size, (Math.floor(at / groups) + 1) * columns);
    const fitted = fitGroup(values.subarray(start, end), planes);
    scales[0][at] = storedScale('float', fitted[0], { floats: 'float16', factor: 1 });
    scales[1][at] = storedScale('float', fitted[1], { floats: 'float16', factor: 1 });
  }
  return scales;
}

/** The scales a >= b >= 0 of least squared error: for given signs by least squares, then signs for these scales. */
function fitGroup(values: Float32Array, planes: 1 | 2): readonly [number, number] {
  let a = values.reduce((sum, value) => sum + Math.abs(value), 0) / values.length;
  if (planes === 1) return [a, 0];
  let b = values.reduce((sum, value) => sum + Math.abs(Math.abs(value) - a), 0) / values.length;
  for (let round = 0; round < rounds; round++) {
    // Signs are those of w and of |w| - a; those of the second plane relative to the first's are all that counts.
    let [sum, difference, both] = [0, 0, 0];
    for (const value of values) {
      const size = Math.abs(value);
      sum += size;
      const outer = size >= a ? 1 : -1;
      difference += outer * size;
      both += outer;
    }
    const n = values.length;
    const determinant = n * n - both * both;
    if (determinant === 0) break;
    const [nextA, nextB] = [
      (n * sum - both * difference) / determinant,
      (n * difference - both * sum) / determinant,
    ];
    if (nextA === a && nextB === b) break;
    [a, b] = [nextA, nextB];
  }
  return [a, b];
}

/** Bit 0: the weight's sign; bit 1: that of what the first plane leaves. */
function codeOf(value: number, scale: number): number {
  const positive = value >= 0;
  const left = Math.fround(value - (positive ? scale : -scale));
  return (positive ? 1 : 0) | (left >= 0 ? 2 : 0);
}

function encoded(
  { rows, columns }: Matrix,
  { planes, group }: BinaryOptions,
  scales: Scales,
  codeAt: (row: number, column: number) => number,
): Encoding {
  const plane = (index: number) => {
    const signs = new Uint8Array(rows * columns);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        signs[row * columns + column] = (codeAt(row, column) >> index) & 1;
      }
    }
    return { signs, scales: scales[index] };
  };
  return signPlanes({
    rows,
    columns,
    group,
    planes: Array.from({ length: planes }, (_, index) => plane(index)),
  });
}
