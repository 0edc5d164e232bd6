/**
 * Round-to-nearest: every weight takes the nearest code of its group's grid. What a method of its own is is also where
 * others begin, and what they are compared with.
 */

import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import { groupedInBytes } from '../encodings/byte-scales.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { scaleForm } from '../encodings/grid.ts';
import type { PackedCodes } from '../encodings/grouped.ts';
import { groupedPacked, groupsOf, packing } from '../encodings/grouped.ts';
import type { Kernels } from '../kernels/kernels.ts';
import { withKernels } from '../kernels/kernels.ts';
import type { Matrix } from '../contract/statistic.ts';
import { roundToLevels } from './levels.ts';
import type { NumberChoice } from './options.ts';
import type { GridChoice } from './tiles.ts';
import { checkWeights, groupLength, parametersOf, place, reserveParameters, strideOf } from './tiles.ts';

/** Weights that are in the kernels' memory at once: rows are independent, and embeddings are large. */
const mostWeights = 2 ** 24;

/** The nearest codes, of integers or of a number format. */
export async function plainly(weight: Matrix, choice: NumberChoice): Promise<Encoding> {
  const { numbers } = choice;
  return numbers === 'integers'
    ? integersIn(choice, await roundToNearest(weight, choice))
    : roundToLevels(weight, { ...choice, numbers });
}

/** With scales in the type that was chosen. */
export const integersIn = ({ scales }: Pick<GridChoice, 'scales'>, codes: PackedCodes): Encoding =>
  scales === 'byte' ? groupedInBytes(codes) : groupedPacked(codes);

/** @param threads see `withKernels` */
export async function roundToNearest(
  weight: Matrix,
  choice: GridChoice,
  threads?: number,
): Promise<PackedCodes> {
  const { rows, columns } = weight;
  const { bits, group, symmetric } = choice;
  const tensor = weight.plain ?? stored('float32', [rows, columns], weight.values);
  const bytes = tensor.bytes();
  const atOnce = Math.max(16, Math.floor(mostWeights / columns / 16) * 16);
  const groups = groupsOf({ columns, group });
  const scales = new Float32Array(rows * groups);
  const zeros = symmetric ? undefined : new Uint8Array(rows * groups);
  const { rowBytes } = packing({ columns, bits, group, zeroPoints: !symmetric });
  const packed = new Uint8Array(rows * rowBytes);
  for (let row = 0; row < rows; row += atOnce) {
    const count = Math.min(atOnce, rows - row);
    const [from, to] = [row, row + count].map((each) => (each * bytes.length) / rows);
    const part = stored(tensor.dtype, [count, columns], bytes.subarray(from, to));
    await withKernels((kernels) => {
      const found = roundRows(kernels, part, choice);
      packed.set(found.packed, row * rowBytes);
      scales.set(found.scales, row * groups);
      if (found.zeros) zeros?.set(found.zeros, row * groups);
    }, threads);
  }
  checkWeights(weight, { scales });
  return { rows, columns, bits, group, packed, scales, zeros };
}

/** Codes are still in the kernels' memory. */
function roundRows(
  kernels: Kernels,
  weights: Stored,
  choice: GridChoice,
): Pick<PackedCodes, 'packed' | 'scales' | 'zeros'> {
  const [rows, columns] = weights.shape;
  const { bits, group, symmetric } = choice;
  const stride = strideOf(rows);
  const length = groupLength(choice, columns);
  const groups = groupsOf({ columns, group });
  const { at, form } = place(kernels, weights);
  const parameters = reserveParameters(kernels, groups, stride);
  const { rowBytes, width, shift, fill } = packing({ columns, bits, group, zeroPoints: !symmetric });
  const target = kernels.reserve(rows * rowBytes);
  const from = [at, rows, columns, form];
  const places = [length, parameters.scales.at, parameters.zeros.at, stride];
  const grid = [2 ** bits - 1, Number(symmetric), Number(choice.range === 'mse'), scaleForm(choice)];
  const to = [target.at, rowBytes, width, shift, fill];
  // A tile, its codes, and what packing takes.
  const scratch = 80 * columns + 16;
  kernels.run('round', stride / 16, scratch, ...from, ...places, ...grid, ...to);
  const found = parametersOf(kernels, parameters, { rows, stride, groups, symmetric });
  return { packed: kernels.bytes(target), ...found };
}
