/**
 * What is left to choose where some weights are kept as they are: their values make up for what rounding did to all
 * others. H = X^T X with the share of its mean diagonal added that GPTQ adds.
 */

import { defaultThreads } from '../base/threads.ts';
import type { Matrix } from '../contract/statistic.ts';
import { products } from './products.ts';

/** What rounding has to be told of columns that are kept, and what it takes to fit them afterwards. */
export interface ColumnFit {
  /** Which, rising: [k]. */
  readonly columns: Int32Array;
  /** Rows of H that belong to them: [k, n]. */
  readonly rows: Float32Array;
  /** Lower triangular factor of their block of H, [k, k]. */
  readonly factor: Float64Array;
}

/**
 * Takes columns out of a Gram matrix that are free to follow all others (a Schur complement):
 *   H_RR - H_RK H_KK^-1 H_KR,
 * in place; what is left of the kept columns is 0, so that a weight of 0 there stays one.
 * @param gram row-major [n, n]
 */
export async function freeColumns(
  gram: Float32Array,
  columns: Int32Array,
  damping: number,
): Promise<ColumnFit> {
  const n = Math.sqrt(gram.length);
  const count = columns.length;
  const added = damping * meanDiagonal(gram, n);
  const rows = new Float32Array(count * n);
  columns.forEach((column, i) => rows.set(gram.subarray(column * n, (column + 1) * n), i * n));
  const factor = factored((i, j) => rows[i * n + columns[j]] + (i === j ? added : 0), count);
  // H_RK H_KK^-1, row by row.
  const solved = new Float32Array(n * count);
  const tied = new Float32Array(n * count);
  const right = new Float64Array(count);
  for (let row = 0; row < n; row++) {
    for (let i = 0; i < count; i++) right[i] = tied[row * count + i] = rows[i * n + row];
    solved.set(solve(factor, right), row * count);
  }
  if (count > 0) {
    const engine = await products(defaultThreads());
    const left = new Float32Array(n * n);
    await engine.remainder(
      { rows: n, values: gram },
      { rows: n, values: solved },
      { rows: n, values: tied },
      { rows: n, values: left },
    );
    gram.set(left);
  }
  for (const column of columns) {
    gram.fill(0, column * n, (column + 1) * n);
    for (let row = 0; row < n; row++) gram[row * n + column] = 0;
  }
  // Where the kept columns say all that a column says, what is left is 0 up to rounding.
  for (let i = 0; i < n; i++) gram[i * n + i] = Math.max(gram[i * n + i], 0);
  return { columns, rows, factor };
}

/**
 * The kept columns' best values, W_K + H_KK^-1 H_KR (W_R - Q_R) for every row: [k, rows of the matrix].
 * @param rounded Q, row-major as the weight, whose kept columns are 0
 */
export async function fitColumns(
  { rows, columns: n, values }: Matrix,
  rounded: Float32Array,
  { columns, rows: gramRows, factor }: ColumnFit,
): Promise<Float32Array> {
  const count = columns.length;
  const found = new Float32Array(count * rows);
  if (count === 0) return found;
  const difference = values.map((value, at) => value - rounded[at]);
  for (let row = 0; row < rows; row++) for (const column of columns) difference[row * n + column] = 0;
  const engine = await products(defaultThreads());
  // The engine subtracts: what comes out is -(W_R - Q_R) H_RK.
  const moved = new Float32Array(rows * count);
  await engine.remainder(
    { rows, values: new Float32Array(rows * count) },
    { rows, values: difference },
    { rows: count, values: gramRows },
    { rows, values: moved },
  );
  const right = new Float64Array(count);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < count; i++) right[i] = -moved[row * count + i];
    const change = solve(factor, right);
    for (let i = 0; i < count; i++) found[i * rows + row] = values[row * n + columns[i]] + change[i];
  }
  return found;
}

/**
 * The best values to add at single places of one row, argmin_s (d - s) H (d - s) with s 0 elsewhere:
 * H_SS^-1 (H d)_S, added to `target`.
 * @param difference d = w - q of the row [n]
 * @param places S, rising
 * @param added to the diagonal of the Gram matrix
 */
export function fitPlaces(
  gram: Float32Array,
  difference: Float32Array,
  places: Int32Array,
  added: number,
  target: Float32Array,
): void {
  const n = difference.length;
  const right = Float64Array.from(places, (place) => {
    let sum = added * difference[place];
    for (let i = 0, at = place * n; i < n; i++, at++) sum += gram[at] * difference[i];
    return sum;
  });
  const entry = (i: number, j: number) => gram[places[i] * n + places[j]] + (i === j ? added : 0);
  target.set(solve(factored(entry, places.length), right));
}

/** Of the columns that inputs reached; 1 where there are none. */
export function meanDiagonal(gram: Float32Array, n: number): number {
  let sum = 0;
  let live = 0;
  for (let i = 0; i < n; i++) {
    sum += gram[i * n + i];
    if (gram[i * n + i] > 0) live++;
  }
  return live === 0 ? 1 : sum / live;
}

/** Lower triangular L with L L^T the matrix; a pivot that is none is taken as infinite, so that its unknown is 0. */
function factored(entry: (i: number, j: number) => number, size: number): Float64Array {
  const factor = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = entry(i, j);
      for (let k = 0; k < j; k++) sum -= factor[i * size + k] * factor[j * size + k];
      if (i > j) factor[i * size + j] = sum / factor[j * size + j];
      else factor[i * size + i] = sum > 1e-9 * entry(i, i) ? Math.sqrt(sum) : Number.POSITIVE_INFINITY;
    }
  }
  return factor;
}

/** L^-T L^-1 right. */
function solve(factor: Float64Array, right: Float64Array): Float64Array {
  const size = right.length;
  const found = right.slice();
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < i; k++) found[i] -= factor[i * size + k] * found[k];
    found[i] /= factor[i * size + i];
  }
  for (let i = size - 1; i >= 0; i--) {
    for (let k = i + 1; k < size; k++) found[i] -= factor[k * size + i] * found[k];
    found[i] /= factor[i * size + i];
  }
  return found;
}
