/**
 * The order of query and key rows. Rotary embedding turns pairs of a head's values: checkpoints pair a value with the
 * one half a head away, llama.cpp's llama with its neighbour.
 */

import { LapidaryError } from '../base/errors.ts';

/** Rows of each head from adjacent pairs (2j + s) to halves (s * size / 2 + j); a row is any number of bytes. */
export function inHalves(bytes: Uint8Array, rows: number, heads: number): Uint8Array {
  return reordered(bytes, rows, heads, (row, size) => (row % 2) * (size / 2) + Math.floor(row / 2));
}

/** From halves to adjacent pairs. */
export function inPairs(bytes: Uint8Array, rows: number, heads: number): Uint8Array {
  return reordered(bytes, rows, heads, (row, size) => (row % (size / 2)) * 2 + Math.floor(row / (size / 2)));
}

function reordered(
  bytes: Uint8Array,
  rows: number,
  heads: number,
  target: (row: number, size: number) => number,
): Uint8Array {
  const size = rows / heads;
  if (!Number.isInteger(size / 2)) {
    throw new LapidaryError({
      what: 'query or key rows do not divide into heads',
      expected: `an even number of rows for each of ${heads} heads`,
      found: `${rows} rows`,
    });
  }
  const rowBytes = bytes.byteLength / rows;
  const result = new Uint8Array(bytes.byteLength);
  for (let row = 0; row < rows; row++) {
    const to = Math.floor(row / size) * size + target(row % size, size);
    result.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), to * rowBytes);
  }
  return result;
}
