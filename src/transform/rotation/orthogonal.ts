/** Dense orthogonal matrices, for sizes that have no Hadamard matrix. */

import type { Random } from '../../base/random.ts';

/**
 * A random orthogonal matrix whose first column is constant: normal numbers, made orthonormal (modified Gram-Schmidt,
 * twice, in float64).
 * @returns row-major [size, size]
 */
export function orthogonal(size: number, random: Random): Float32Array {
  const columns = Array.from({ length: size }, (_, column) =>
    Float64Array.from({ length: size }, () => (column === 0 ? 1 : random.normal())),
  );
  for (const [index, column] of columns.entries()) {
    for (let pass = 0; pass < 2; pass++) {
      for (let before = 0; before < index; before++) {
        const share = dot(column, columns[before]);
        for (let i = 0; i < size; i++) column[i] -= share * columns[before][i];
      }
    }
    const norm = Math.sqrt(dot(column, column));
    for (let i = 0; i < size; i++) column[i] /= norm;
  }
  return Float32Array.from({ length: size * size }, (_, i) => columns[i % size][Math.floor(i / size)]);
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}
