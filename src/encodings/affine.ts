/**
 * Integers in groups with a float for each group's code 0: w = code * scale + bias, as ggml's blocks with minima and MLX
 * store them, as encodings whose values are the same to the bit.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Encoding } from './encoding.ts';
import type { GroupSize } from './grouped.ts';
import { groupsOf, packing } from './grouped.ts';
import type { Width } from './pack.ts';
import { pack } from './pack.ts';
import { shifted } from './shifted.ts';

export interface AffineCodes {
  readonly rows: number;
  readonly columns: number;
  readonly bits: Width;
  readonly group: GroupSize;
  /** [rows, columns], below `count`. */
  readonly codes: Uint8Array;
  /** How many there are; at most 2^bits. */
  readonly count: number;
  /** [rows, groups]. */
  readonly scales: Float32Array;
  /** [rows, groups]: what code 0 stands for. */
  readonly biases: Float32Array;
}

/**
 * Codes count from the middle one, which offsets make up for; where that takes more digits than a float32 has they count
 * from 0, with zero points that say so.
 * @throws LapidaryError on sizes that do not agree, scales that are not finite, and values that neither gives
 */
export function affine(parts: AffineCodes): Encoding {
  const { rows, columns, bits, group, codes, count, scales, biases } = parts;
  const middle = 2 ** (bits - 1);
  const packed = (of: Uint8Array, zeroPoints: boolean) => {
    const { block, blocks, fill } = packing({ columns, bits, group, zeroPoints });
    return { rows, columns, bits, group, scales, packed: pack(of, columns, bits, blocks * block, fill) };
  };
  // There is room below: the middle code itself stands for the bias.
  if (count <= middle) {
    const moved = codes.map((code) => code + middle);
    return shifted(packed(moved, false), biases);
  }
  const offsets = biases.map((bias, g) => middle * scales[g] + bias);
  const expected = valuesOf(parts);
  const plain = shifted(packed(codes, false), offsets);
  if (equalValues(plain.dense(), expected)) return plain;
  const counted = shifted({ ...packed(codes, true), zeros: new Uint8Array(biases.length) }, biases);
  if (equalValues(counted.dense(), expected)) return counted;
  throw new LapidaryError({
    what: 'these codes and biases are no grouped integers to the bit',
    where: `matrix [${rows}, ${columns}]`,
    fix: 'report it, with the model',
  });
}

/** Products are rounded to float32, then sums, as ggml does. */
function valuesOf({ columns, group, codes, scales, biases, rows }: AffineCodes): Float32Array {
  const length = group === -1 ? columns : group;
  const groups = groupsOf({ columns, group });
  const values = new Float32Array(codes.length);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      const g = row * groups + Math.floor(column / length);
      values[at] = Math.fround(codes[at] * scales[g]) + biases[g];
    }
  }
  return values;
}

/** 0 and -0 are one value. */
export function equalValues(a: Float32Array, b: Float32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
