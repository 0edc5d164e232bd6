/** Integers as checkpoint formats store them, as an encoding: grouped ones as they are, others dense. */

import { floatToHalf } from '../../base/half.ts';
import type { Stored } from '../../base/tensor.ts';
import { byteLength } from '../../base/tensor.ts';
import { dense } from '../../encodings/dense.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { GroupSize } from '../../encodings/grouped.ts';
import { grouped, groupSizes } from '../../encodings/grouped.ts';
import type { Bits } from '../../encodings/grid.ts';

/** w = (code - zero) * scale. */
export interface Integers {
  readonly rows: number;
  readonly columns: number;
  readonly bits: Bits;
  /** Weights that share a scale, from a row's start on; -1 for all of a row. */
  readonly group: number;
  /** [rows, columns]. */
  readonly codes: Uint8Array;
  /** [rows, groups]. */
  readonly scales: Float32Array;
  /** [rows, groups]. */
  readonly zeros: Uint8Array;
}

/** Whether `grouped` takes such groups; a group that is as long as a row, or longer, is the row. */
export function groupOf(group: number, columns: number): GroupSize | undefined {
  if (group === -1 || (group >= columns && !isGroupSize(group))) return -1;
  return isGroupSize(group) ? group : undefined;
}

const isGroupSize = (group: number): group is GroupSize =>
  (groupSizes as readonly number[]).includes(group) || group === -1;

/** A group size that `groupOf` knows; zero points that are all the middle one are left out. */
export function integerEncoding(integers: Integers & { readonly group: GroupSize }): Encoding {
  const { bits, zeros } = integers;
  const middle = 2 ** (bits - 1);
  return grouped({ ...integers, zeros: zeros.every((zero) => zero === middle) ? undefined : zeros });
}

/**
 * What the codes stand for, in float16, made each time it is asked for: for groups that no engine of ours multiplies.
 * @param read gives the integers
 * @param groupIndex group of each column [columns]; where it is not given, the columns' order
 */
export function halfEncoding(
  [rows, columns]: readonly [number, number],
  read: () => Integers,
  groupIndex?: Int32Array,
): Encoding {
  const bytes = () => {
    const { codes, scales, zeros, group } = read();
    const groups = scales.length / rows;
    const length = group === -1 ? columns : group;
    const values = new Float32Array(rows * columns);
    for (let column = 0; column < columns; column++) {
      const of = groupIndex ? groupIndex[column] : Math.floor(column / length);
      for (let row = 0; row < rows; row++) {
        const [at, g] = [row * columns + column, row * groups + of];
        values[at] = (codes[at] - zeros[g]) * scales[g];
      }
    }
    return new Uint8Array(floatToHalf(values).buffer);
  };
  const shape = [rows, columns];
  const tensor: Stored = { dtype: 'float16', shape, byteLength: byteLength('float16', shape), bytes };
  return dense(tensor);
}

export const isBits = (value: unknown): value is Bits => ([2, 3, 4, 8] as unknown[]).includes(value);

/** Weights that share a scale; -1 for all of a row. */
export const isGroup = (value: unknown): value is number =>
  value === -1 || (Number.isSafeInteger(value) && (value as number) > 0);
