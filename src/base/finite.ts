/**
 * Weights that are not numbers poison every product they enter, so whoever loads a checkpoint looks for them first.
 * The scan reads exponents as stored, without converting.
 */

import { LapidaryError } from './errors.ts';
import { bfloatValue, halfValue } from './half.ts';
import type { Stored } from './tensor.ts';
import { stored } from './tensor.ts';

export interface NonFinite {
  /** Row-major position of the element. */
  readonly index: number;
  /** NaN or an infinity. */
  readonly value: number;
}

/** The first NaN or infinity of a tensor; integers have none. */
export function findNonFinite(tensor: Stored): NonFinite | undefined {
  if (tensor.dtype === 'float16') return scan(words(tensor, 2), 1, 0x7c00, halfValue);
  if (tensor.dtype === 'bfloat16') return scan(words(tensor, 2), 1, 0x7f80, bfloatValue);
  if (tensor.dtype === 'float32') return scan(words(tensor, 4), 1, 0x7f800000, floatValue);
  if (tensor.dtype === 'float64') return scan(words(tensor, 4), 2, 0x7ff00000, doubleValue);
  return undefined;
}

/** @throws LapidaryError that names the tensor and the place of its first NaN or infinity. */
export function checkFinite(name: string, tensor: Stored, where?: string): void {
  const found = findNonFinite(tensor);
  if (!found) return;
  throw new LapidaryError({
    what: `tensor "${name}" holds a value that is not a number`,
    where,
    expected: `finite ${tensor.dtype} values`,
    found: `${found.value} at ${found.index} of [${tensor.shape.join(', ')}]`,
    fix: 'the checkpoint is damaged or its training diverged; fetch it again or use another',
  });
}

/**
 * The same for a matrix at hand, row-major with so many columns.
 * @param what the values are, in the plural: "weights"
 * @throws LapidaryError that names row and column of the first one.
 */
export function checkFiniteMatrix(
  what: string,
  values: Float32Array | Stored,
  columns: number,
  where?: string,
): void {
  const found = findNonFinite('dtype' in values ? values : stored('float32', [values.length], values));
  if (!found) return;
  throw new LapidaryError({
    what: `${what} are not all finite`,
    where,
    expected: 'finite numbers',
    found: `${found.value} in row ${Math.floor(found.index / columns)}, column ${found.index % columns}`,
    fix: 'the checkpoint is damaged or its training diverged; fetch it again or use another',
  });
}

/** Looks at the last of every `stride` words, which holds the exponent: all ones there is an infinity or NaN. */
function scan(
  data: Uint16Array | Int32Array,
  stride: 1 | 2,
  exponent: number,
  value: (word: number, lower: number) => number,
): NonFinite | undefined {
  const pairs = data instanceof Uint16Array ? pairsOf(data) : undefined;
  if (!(pairs ? anyOnes(pairs, 1, exponent, 0x10001) : anyOnes(data, stride, exponent, 1))) return undefined;
  for (let i = stride - 1; i < data.length; i += stride) {
    if ((data[i] & exponent) === exponent)
      return { index: (i - stride + 1) / stride, value: value(data[i], data[i - 1]) };
  }
  return undefined;
}

/** Two by two, where they lie so. */
const pairsOf = ({ buffer, byteOffset, length }: Uint16Array): Int32Array | undefined =>
  byteOffset % 4 || length % 2 ? undefined : new Int32Array(buffer, byteOffset, length / 2);

/**
 * Without a branch a word: only an exponent of ones carries into its sign's place.
 * @param copies a word with ones at the start of each of its numbers
 */
function anyOnes(
  data: Uint16Array | Int32Array,
  stride: 1 | 2,
  exponent: number,
  copies: 1 | 0x10001,
): boolean {
  const [mask, lowest] = [exponent * copies, (exponent & -exponent) * copies];
  let carried = 0;
  for (let i = stride - 1; i < data.length; i += stride) carried |= (data[i] & mask) + lowest;
  return (carried & (mask + lowest)) !== 0;
}

function floatValue(bits: number): number {
  return new Float32Array(Uint32Array.of(bits).buffer)[0];
}

function doubleValue(upper: number, lower: number): number {
  return new Float64Array(Uint32Array.of(lower, upper).buffer)[0];
}

function words(tensor: Stored, size: 2 | 4): Uint16Array | Int32Array {
  const bytes = tensor.bytes();
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % size ? new Uint8Array(bytes) : bytes;
  return size === 2
    ? new Uint16Array(buffer, byteOffset, byteLength / 2)
    : new Int32Array(buffer, byteOffset, byteLength / 4);
}
