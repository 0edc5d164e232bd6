/** Columns that are kept out of rounding: which, and their values, which no longer widen ranges. */

import type { Matrix } from '../contract/statistic.ts';

/** Indices of the `count` largest, rising; of equal ones the first. */
export function largest(values: ArrayLike<number>, count: number): Int32Array {
  const order = Array.from(values, (_, index) => index).sort((a, b) => values[b] - values[a] || a - b);
  return Int32Array.from(order.slice(0, count)).sort();
}

/** The values of some columns, [k, rows]; they become 0 in the matrix, so that they widen no range of codes. */
export function takeColumns({ rows, columns: width, values }: Matrix, columns: Int32Array): Float32Array {
  const taken = new Float32Array(columns.length * rows);
  columns.forEach((column, i) => {
    for (let row = 0; row < rows; row++) {
      taken[i * rows + row] = values[row * width + column];
      values[row * width + column] = 0;
    }
  });
  return taken;
}
