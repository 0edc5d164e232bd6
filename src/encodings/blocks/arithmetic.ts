/** The float32 arithmetic that the reference quantizers are written in, step by step. */

import { halfCode, halfValue } from '../../base/half.ts';

const { fround } = Math;

const scratch = new Float32Array(1);
const scratchBits = new Int32Array(scratch.buffer);

/**
 * To the nearest whole number, halves to the even one, by adding 1.5 * 2^23; beyond 2^22 the result wraps, which
 * happens in blocks whose scale is next to nothing, and is part of the format's reference.
 */
export function nearestInteger(value: number): number {
  if (value < 4194303 && value > -4194303) return fround(value + 12582912) - 12582912;
  scratch[0] = value + 12582912;
  return (scratchBits[0] & 0x7fffff) - 0x400000;
}

/** To the nearest whole number, halves away from zero; 0 for what is not finite. */
export function roundAway(value: number): number {
  return (value < 0 ? -Math.floor(0.5 - value) : Math.floor(value + 0.5)) | 0;
}

export const clamp = (value: number, low: number, high: number): number =>
  Math.max(low, Math.min(high, value));

/** 1 / value, and 0 for 0. */
export const inverse = (value: number): number => (value === 0 ? 0 : fround(1 / value));

export function readHalf(bytes: Uint8Array, at: number): number {
  return halfValue(bytes[at] | (bytes[at + 1] << 8));
}

export function writeHalf(bytes: Uint8Array, at: number, value: number): void {
  const code = halfCode(value);
  bytes[at] = code & 255;
  bytes[at + 1] = code >> 8;
}

export function sumOfSquares(values: Float32Array): number {
  let sum = 0;
  for (const each of values) sum = fround(sum + fround(each * each));
  return sum;
}

export function sumOf(values: Float32Array): number {
  let sum = 0;
  for (const each of values) sum = fround(sum + each);
  return sum;
}

/** The value of the largest size, the first of equals; 0 where all are. */
export function signedLargest(values: Float32Array): number {
  let largest = 0;
  for (const each of values) if (Math.abs(each) > Math.abs(largest)) largest = each;
  return largest;
}

/** The whole numbers from `low` to `high`. */
export const wholeNumbers = (low: number, high: number): Float32Array =>
  Float32Array.from({ length: high - low + 1 }, (_, i) => low + i);
