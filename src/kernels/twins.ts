/**
 * The kernels again, one number at a time and in plain TypeScript: what they mean, and what tests and the bench hold
 * them against. Same layouts as kernels/*.ts, without cutting into items.
 */

import { roundEven } from '../base/round.ts';

const { fround } = Math;

/** [rows, columns] to [columns, stride], zero-filled. */
export function transpose(source: Float32Array, rows: number, columns: number, stride: number): Float32Array {
  const target = new Float32Array(columns * stride);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      target[column * stride + row] = source[row * columns + column];
  }
  return target;
}

interface Range {
  readonly scale: number;
  readonly zero: number;
}

function codeOf(value: number, { scale, zero }: Range, top: number): number {
  return Math.min(Math.max(roundEven(fround(value / scale)) + zero, 0), top);
}

/** Codes of w [columns, stride] with parameters [groups, stride]. */
export function round(
  w: Float32Array,
  { columns, stride, size, top }: { columns: number; stride: number; size: number; top: number },
  scales: Float32Array,
  zeros: Float32Array,
): Uint8Array {
  const codes = new Uint8Array(columns * stride);
  for (let column = 0; column < columns; column++) {
    const group = Math.floor(column / size) * stride;
    for (let row = 0; row < stride; row++) {
      const range = { scale: scales[group + row], zero: zeros[group + row] };
      codes[column * stride + row] = codeOf(w[column * stride + row], range, top);
    }
  }
  return codes;
}

/** Rounds a block column by column, each error taken out of the columns after it; see kernels/compensate.ts. */
export function compensate(
  w: Float32Array,
  origin: Float32Array,
  { columns, stride, pitch, top }: { columns: number; stride: number; pitch: number; top: number },
  inverse: Float32Array,
  groups: Int32Array,
  scales: Float32Array,
  zeros: Float32Array,
): { readonly codes: Uint8Array; readonly left: Float32Array } {
  const codes = new Uint8Array(columns * stride);
  const left = new Float32Array(columns * stride);
  const errors = new Float32Array(columns);
  for (let row = 0; row < stride; row++) {
    for (let i = 0; i < columns; i++) {
      let value = w[i * stride + row];
      for (let k = 0; k < i; k++) value = fround(value - fround(errors[k] * inverse[i * pitch + k]));
      const range = { scale: scales[groups[i] * stride + row], zero: zeros[groups[i] * stride + row] };
      const code = codeOf(value, range, top);
      const q = fround(range.scale * (code - range.zero));
      codes[i * stride + row] = code;
      errors[i] = fround(fround(value - q) / inverse[i * pitch + i]);
      left[i * stride + row] = origin[i * stride + row] - q;
    }
  }
  return { codes, left };
}

/** S = R R^T: R^T and U^T = R^-T, lower triangular [size, size]; undefined where a pivot is not positive. */
export function factor(
  s: Float32Array,
  size: number,
): { readonly root: Float64Array; readonly inverse: Float64Array } | undefined {
  const root = new Float64Array(size * size);
  for (let k = size - 1; k >= 0; k--) {
    for (let j = 0; j <= k; j++) {
      let sum = s[k * size + j];
      for (let m = k + 1; m < size; m++) sum -= root[m * size + k] * root[m * size + j];
      root[k * size + j] = sum;
    }
    const pivot = Math.sqrt(root[k * size + k]);
    if (!(pivot > 0)) return undefined;
    for (let j = 0; j < k; j++) root[k * size + j] /= pivot;
    root[k * size + k] = pivot;
  }
  const inverse = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? 1 : 0;
      for (let k = j; k < i; k++) sum -= root[i * size + k] * inverse[k * size + j];
      inverse[i * size + j] = sum / root[i * size + i];
    }
  }
  return { root, inverse };
}
