/**
 * What the methods that choose integer codes share around the kernels: the weight transposed into tiles, scales and
 * zero points fitted to it, and codes packed into an encoding. Layouts: kernels/index.ts.
 */

import { checkFiniteMatrix, findNonFinite } from '../base/finite.ts';
import type { DType, Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { IntegerGridOptions } from '../encodings/grid.ts';
import { scaleForm } from '../encodings/grid.ts';
import type { GroupSize, PackedCodes } from '../encodings/grouped.ts';
import { groupsOf, packing } from '../encodings/grouped.ts';
import type { Area, Kernels } from '../kernels/kernels.ts';
import type { Matrix } from '../contract/statistic.ts';

/** What `gridOptions` parses to. */
export interface GridChoice extends IntegerGridOptions {
  readonly group: GroupSize;
}

/** Rows of a matrix as the kernels see them. */
export interface Tiles {
  readonly rows: number;
  readonly columns: number;
  /** Rows, filled up with zeros to whole tiles of 16. */
  readonly stride: number;
  /** Float32 [columns, stride]. */
  readonly weights: Area;
}

/** Float32 [groups, stride] each. */
export interface Parameters {
  readonly scales: Area;
  readonly zeros: Area;
}

/** Weights that share parameters in a row of this many columns. */
export const groupLength = ({ group }: Pick<GridChoice, 'group'>, columns: number): number =>
  group === -1 ? columns : group;

/** Of a weight, by its place in [rows, columns]: the place of its group in [rows, groups]. */
export const groupAt = (at: number, columns: number, length: number): number =>
  Math.floor(at / columns) * Math.ceil(columns / length) + Math.floor((at % columns) / length);

/**
 * A weight that is not finite has spoilt its group's scale, so weights are looked at only then.
 * @throws LapidaryError that names row and column of the first such
 */
export function checkWeights(weight: Matrix, { scales }: Pick<PackedCodes, 'scales'>): void {
  if (findNonFinite(stored('float32', [scales.length], scales)))
    checkFiniteMatrix('weights', weight.values, weight.columns);
}

/** As kernels/transpose.ts has them. */
const forms: Partial<Record<DType, number>> = { float32: 0, float16: 1, bfloat16: 2 };

/** Rows, filled up to whole tiles. */
export const strideOf = (rows: number): number => Math.ceil(rows / 16) * 16;

/** A tensor in the kernels' memory: where it begins, and the form of its values. */
export function place(kernels: Kernels, tensor: Stored): { readonly at: number; readonly form: number } {
  const area = kernels.reserve(tensor.byteLength);
  kernels.bytes(area).set(tensor.bytes());
  return { at: area.at, form: forms[tensor.dtype]! };
}

/** @param values row-major [rows, columns]; those that 16 bits hold are widened on the way */
export function toTiles(
  kernels: Kernels,
  values: Float32Array | Stored,
  rows: number,
  columns: number,
): Tiles {
  const tensor = 'dtype' in values ? values : stored('float32', [rows, columns], values);
  const stride = strideOf(rows);
  const weights = kernels.reserve(columns * stride * 4);
  const { at, form } = place(kernels, tensor);
  kernels.run('transpose', stride / 16, 0, at, rows, columns, weights.at, stride, form);
  return { rows, columns, stride, weights };
}

/** Room for the parameters of so many groups, [groups, stride] each. */
export function reserveParameters(kernels: Kernels, groups: number, stride: number): Parameters {
  return { scales: kernels.reserve(groups * stride * 4), zeros: kernels.reserve(groups * stride * 4) };
}

/**
 * Fits every group of `columns` columns at `weights` [columns, stride].
 * @param firstGroup where in the parameters the first of them stands
 */
export function fitGroups(
  kernels: Kernels,
  { at, columns, stride, length }: { at: number; columns: number; stride: number; length: number },
  choice: GridChoice,
  { scales, zeros }: Parameters,
  firstGroup = 0,
): void {
  const { bits, symmetric } = choice;
  const search = choice.range === 'mse';
  const offset = firstGroup * stride * 4;
  const items = (Math.ceil(columns / length) * stride) / 16;
  const flags = [...[symmetric, search].map(Number), scaleForm(choice)];
  const targets = [scales.at + offset, zeros.at + offset];
  kernels.run(
    'fit',
    items,
    search ? 64 * length : 0,
    at,
    columns,
    stride,
    length,
    ...targets,
    2 ** bits - 1,
    ...flags,
  );
}

/**
 * Packs codes (uint8 [columns, stride]) and gives them with their parameters, copied out of the shared memory.
 * @param lines which line of `codes` holds each column, int32 [columns]; without it the same
 */
export function collect(
  kernels: Kernels,
  { rows, columns, stride }: Omit<Tiles, 'weights'>,
  { bits, group, symmetric }: GridChoice,
  codes: Area,
  parameters: Parameters,
  lines?: Area,
): PackedCodes {
  const { rowBytes, width, shift, fill } = packing({ columns, bits, group, zeroPoints: !symmetric });
  const target = kernels.reserve(rows * rowBytes);
  const sizes = [columns, stride, rows, target.at, rowBytes, width, shift, fill];
  kernels.run('pack', stride / 16, 16, codes.at, lines?.at ?? 0, ...sizes);
  const found = parametersOf(kernels, parameters, {
    rows,
    stride,
    groups: groupsOf({ columns, group }),
    symmetric,
  });
  return { rows, columns, bits, group, packed: kernels.bytes(target).slice(), ...found };
}

/** [rows, groups] each; symmetric grids have no zero points. */
export function parametersOf(
  kernels: Kernels,
  { scales, zeros }: Parameters,
  { rows, stride, groups, symmetric }: { rows: number; stride: number; groups: number; symmetric: boolean },
): Pick<PackedCodes, 'scales' | 'zeros'> {
  const count = rows * groups;
  return {
    scales: rowMajor(kernels.floats(scales), new Float32Array(count), rows, stride),
    zeros: symmetric ? undefined : rowMajor(kernels.floats(zeros), new Uint8Array(count), rows, stride),
  };
}

/** [groups, stride] into [rows, groups]. */
export function rowMajor<T extends Float32Array | Uint8Array>(
  from: Float32Array,
  to: T,
  rows: number,
  stride: number,
): T {
  const groups = to.length / rows;
  for (let row = 0; row < rows; row++) {
    for (let group = 0; group < groups; group++) to[row * groups + group] = from[group * stride + row];
  }
  return to;
}
