/**
 * The two 16-bit float types of checkpoints, which JavaScript's typed arrays do not have on Node 20: IEEE 754 binary16
 * (float16) and bfloat16, to and from float32. Rounding is to nearest, ties to even; subnormals, infinities and
 * NaN (kept a NaN, quiet) are honoured. Codes travel as Uint16Array.
 */

import { LapidaryError } from './errors.ts';
import type { Stored } from './tensor.ts';
import { elementCount } from './tensor.ts';

const scratch = new Uint32Array(1);
const scratchFloat = new Float32Array(scratch.buffer);

/** The value of one float16 code. */
export function halfValue(code: number): number {
  scratch[0] = halfBits(code);
  return scratchFloat[0];
}

/** The float16 code nearest to a number (rounded to float32 first). */
export function halfCode(value: number): number {
  scratchFloat[0] = value;
  return codeOfBits(scratch[0]);
}

/** The value of one bfloat16 code. */
export function bfloatValue(code: number): number {
  scratch[0] = code << 16;
  return scratchFloat[0];
}

/** The bfloat16 code nearest to a number (rounded to float32 first). */
export function bfloatCode(value: number): number {
  scratchFloat[0] = value;
  return bfloatOfBits(scratch[0]);
}

let halfValues: Float32Array | undefined;

/** Values of float16 codes, in a fresh array. */
export function halfToFloat(codes: Uint16Array): Float32Array {
  // Looked up: the table of all codes stays in a core's cache, and computing them takes two passes.
  halfValues ??= Float32Array.from({ length: 2 ** 16 }, (_, code) => halfValue(code));
  const table = halfValues;
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) values[i] = table[codes[i]];
  return values;
}

/** The float16 codes nearest to values, in a fresh array. */
export function floatToHalf(values: Float32Array): Uint16Array {
  const bits = bitsOf(values);
  const codes = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) codes[i] = codeOfBits(bits[i]);
  return codes;
}

/** Whether float16 holds all of these as they are, with none below its normal numbers. */
export function areNormalHalves(values: Float32Array): boolean {
  for (const bits of bitsOf(values)) {
    const magnitude = bits & 0x7fffffff;
    if (magnitude < 0x38800000 || magnitude > 0x477fe000 || (bits & 0x1fff) !== 0) return false;
  }
  return true;
}

/** Values of bfloat16 codes, in a fresh array. */
export function bfloatToFloat(codes: Uint16Array): Float32Array {
  const bits = new Uint32Array(codes.length);
  for (let i = 0; i < codes.length; i++) bits[i] = codes[i] << 16;
  return new Float32Array(bits.buffer);
}

/** The bfloat16 codes nearest to values, in a fresh array. */
export function floatToBfloat(values: Float32Array): Uint16Array {
  const bits = bitsOf(values);
  const codes = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) codes[i] = bfloatOfBits(bits[i]);
  return codes;
}

/**
 * A stored float tensor as float32, in a fresh array that the caller may write to.
 * @throws LapidaryError for a type that does not hold floats.
 */
export function toFloat32(tensor: Stored): Float32Array {
  const bytes = tensor.bytes();
  const count = elementCount(tensor.shape);
  switch (tensor.dtype) {
    case 'float32': {
      const values = new Float32Array(count);
      new Uint8Array(values.buffer).set(bytes);
      return values;
    }
    case 'float16':
      return halfToFloat(words(bytes));
    case 'bfloat16':
      return bfloatToFloat(words(bytes));
    case 'float64':
      return Float32Array.from(
        new Float64Array(aligned(bytes, 8), bytes.byteOffset % 8 ? 0 : bytes.byteOffset, count),
      );
    default:
      throw new LapidaryError({
        what: `a tensor of ${tensor.dtype} where floating-point values are needed`,
        expected: 'float32, float16, bfloat16 or float64',
        found: `${tensor.dtype} [${tensor.shape.join(', ')}]`,
      });
  }
}

function halfBits(code: number): number {
  const sign = (code & 0x8000) << 16;
  const exponent = (code >>> 10) & 0x1f;
  const fraction = code & 0x3ff;
  if (exponent === 0x1f) return (sign | 0x7f800000 | (fraction << 13)) >>> 0;
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (fraction << 13)) >>> 0;
  if (fraction === 0) return sign >>> 0;
  // A subnormal, fraction * 2^-24: move its leading one to the implicit place.
  const shift = Math.clz32(fraction) - 21;
  return (sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13)) >>> 0;
}

function codeOfBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  // Adding half a step, less one where the kept part is even, and letting it carry rounds ties to even.
  if (magnitude >= 0x38800000 && magnitude < 0x477ff000) {
    return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  }
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x33000000) return sign;
  // Below 2^-14: a multiple of 2^-24.
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const shift = 126 - (magnitude >>> 23);
  return sign | ((fraction + (1 << (shift - 1)) - 1 + ((fraction >>> shift) & 1)) >>> shift);
}

function bfloatOfBits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

function words(bytes: Uint8Array): Uint16Array {
  return new Uint16Array(
    aligned(bytes, 2),
    bytes.byteOffset % 2 ? 0 : bytes.byteOffset,
    bytes.byteLength / 2,
  );
}

/** The buffer under the bytes, or a copy where their start is not a multiple of `size`. */
function aligned(bytes: Uint8Array, size: number): ArrayBuffer {
  return (bytes.byteOffset % size ? new Uint8Array(bytes).buffer : bytes.buffer) as ArrayBuffer;
}
