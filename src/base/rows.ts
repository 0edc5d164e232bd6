/** Some rows of a matrix: what is true of all of them is often seen in a few. */

/** So many of a matrix's rows, evenly spaced. */
export const evenRows = (rows: number, count: number): readonly number[] =>
  Array.from({ length: count }, (_, index) => Math.floor((index * rows) / count));

/** Their values, copied. @param values row-major with so many columns */
export function pickedRows(values: Float32Array, columns: number, rows: readonly number[]): Float32Array {
  const chosen = new Float32Array(rows.length * columns);
  for (const [i, row] of rows.entries())
    chosen.set(values.subarray(row * columns, (row + 1) * columns), i * columns);
  return chosen;
}
