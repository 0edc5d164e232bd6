/**
 * The factor that GPTQ needs of a damped Gram matrix: H = R R^T with R upper triangular, in blocks of columns J from
 * the last to the first,
 *   S = H[:, J] - R[:, >J] R[J, >J]^T,   S[J] = R_JJ R_JJ^T,   U_JJ = R_JJ^-1,   R[<J, J] = S[<J] U_JJ^T.
 * U = R^-1 satisfies U^T U = H^-1. Only its diagonal blocks are ever formed: the errors E of all earlier columns
 * change block J by U_JJ^T R[<J, J]^T E = V_J^T E, which is GPTQ's update written with R instead of U.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Area, Kernels } from '../kernels/kernels.ts';
import type { Products } from './products.ts';

/** What the walk over the columns needs of block J, columns `start` to `end` of n. */
export interface FactorBlock {
  readonly start: number;
  readonly end: number;
  /** U_JJ^T [size, pitch], in the kernels' memory; pitch is the size filled up to 16. */
  readonly inverse: Area;
  readonly pitch: number;
  /** V_J = R[<J, J] U_JJ, [start, size]. */
  readonly feedback: Float32Array;
}

/** Puts row `row`, columns `start` to `end` of a symmetric matrix into `target` from index `at` on. */
export type ReadRow = (row: number, start: number, end: number, target: Float32Array, at: number) => void;

/** @returns the blocks from first to last, or the column whose pivot is not positive */
export async function factorize(
  kernels: Kernels,
  products: Products,
  n: number,
  size: number,
  read: ReadRow,
): Promise<FactorBlock[] | { readonly column: number }> {
  const count = Math.ceil(n / size);
  const blocks: FactorBlock[] = [];
  const panels = panelStore(products, n, size);
  const [gathered, left] = [products.reserve(n * size), products.reserve(n * size)];
  for (let index = count - 1; index >= 0; index--) {
    const start = index * size;
    const end = Math.min(start + size, n);
    const width = end - start;
    let s = gathered.subarray(0, end * width);
    for (let row = 0; row < end; row++) read(row, start, end, s, row * width);
    if (end < n) {
      const a = panels.gather(index);
      const d = a.subarray(start * (n - end));
      const to = left.subarray(0, s.length);
      await products.remainder(
        { rows: end, values: s },
        { rows: end, values: a },
        { rows: width, values: d },
        { rows: end, values: to },
      );
      s = to;
    }
    const pitch = Math.ceil(width / 16) * 16;
    const inverse = kernels.reserve(width * pitch * 4);
    const bad = factorDiagonal(kernels, s.subarray(start * width), width, pitch, inverse);
    if (bad >= 0) return { column: start + bad };
    const feedback = products.reserve(start * width);
    if (start > 0) {
      const ut = { rows: width, values: dropPitch(kernels.floats(inverse), width, pitch) };
      const above = { rows: start, values: s.subarray(0, start * width) };
      await products.panel(
        above,
        ut,
        { rows: start, values: panels.at(index) },
        { rows: start, values: feedback },
      );
    }
    blocks.unshift({ start, end, inverse, pitch, feedback });
  }
  return blocks;
}

function factorDiagonal(
  kernels: Kernels,
  s: Float32Array,
  size: number,
  pitch: number,
  inverse: Area,
): number {
  const area = kernels.reserve(size * pitch * 4);
  const view = kernels.floats(area);
  for (let row = 0; row < size; row++) view.set(s.subarray(row * size, (row + 1) * size), row * pitch);
  return kernels.call('factor', area.at, inverse.at, size, pitch);
}

function dropPitch(padded: Float32Array, size: number, pitch: number): Float32Array {
  const values = new Float32Array(size * size);
  for (let row = 0; row < size; row++)
    values.set(padded.subarray(row * pitch, row * pitch + size), row * size);
  return values;
}

/**
 * The panels R[<K, K], [K's start, K's width] each, and a place where they are laid side by side. All are in one
 * buffer, because copying within it costs least.
 */
function panelStore(products: Products, n: number, size: number) {
  const count = Math.ceil(n / size);
  const starts = Array.from({ length: count + 1 }, (_, index) => Math.min(index * size, n));
  const offsets: number[] = [];
  let total = 0;
  for (let index = 0; index < count; index++) {
    offsets.push(total);
    total += starts[index] * (starts[index + 1] - starts[index]);
  }
  const widest = Math.max(...starts.map((end) => end * (n - end)));
  const buffer = products.reserve(total + widest);
  return {
    at: (index: number) => buffer.subarray(offsets[index], offsets[index + 1] ?? total),
    /** R[:end, end:] of block `index`, row-major. */
    gather(index: number): Float32Array {
      const end = starts[index + 1];
      const pitch = n - end;
      for (let k = index + 1; k < count; k++) {
        const width = starts[k + 1] - starts[k];
        let to = total + starts[k] - end;
        let from = offsets[k];
        for (let row = 0; row < end; row++) {
          buffer.copyWithin(to, from, from + width);
          to += pitch;
          from += width;
        }
      }
      return buffer.subarray(total, total + end * pitch);
    },
  };
}

/**
 * Adds `damping` times the mean of the diagonal to the diagonal, in place. A column that no input ever reached has
 * only zeros; it gets the mean, and so is rounded by itself (the authors set such weights to 0).
 * @returns the mean over the columns that inputs reached
 * @throws LapidaryError where the diagonal holds something other than finite numbers from 0
 */
export function damp(gram: Float32Array, n: number, damping: number): number {
  let sum = 0;
  let live = 0;
  for (let i = 0; i < n; i++) {
    const value = gram[i * n + i];
    if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) {
      throw new LapidaryError({
        what: 'the Gram matrix is not one',
        where: `column ${i}`,
        found: `${value} on the diagonal`,
      });
    }
    sum += value;
    if (value > 0) live++;
  }
  const mean = live === 0 ? 1 : sum / live;
  for (let i = 0; i < n; i++) gram[i * n + i] += damping * mean + (gram[i * n + i] === 0 ? mean : 0);
  return mean;
}
