/**
 * Blocks of ggml as grouped integers, without loss: what the graphs of ONNX multiply, and other checkpoint formats hold. A
 * part of a block is a group. Levels of types without minima are whole numbers, which a code's distance from the middle
 * holds at 2, 4 or 8 bits. A minimum that is a whole number of scales is a zero point; others are offsets of floats.
 */

import { LapidaryError } from '../../base/errors.ts';
import type { Encoding } from '../encoding.ts';
import type { GroupedCodes, GroupSize, PackedCodes } from '../grouped.ts';
import { grouped, packing } from '../grouped.ts';
import type { Width } from '../pack.ts';
import { pack } from '../pack.ts';
import { shifted } from '../shifted.ts';
import { blockTypeNamed } from './table.ts';

type Codes = Omit<GroupedCodes, 'zeros'> & { readonly bits: Width };

/**
 * The same values, to the bit, as integers in groups; what is not in blocks stays as it is.
 * @throws LapidaryError on values that a float32 offset does not give, to the bit
 */
export function inGroups(encoding: Encoding): Encoding {
  const { description, shape, tensors } = encoding;
  if (description.kind !== 'blocks') return encoding;
  const [rows, columns] = shape;
  const type = blockTypeNamed(String(description.type));
  const { parameters, codes } = type.unpack(tensors.get('blocks')!.bytes());
  const { scales, minima } = parameters;
  const { levels, minima: shifts } = type;
  const shared = { rows, columns, group: type.part as GroupSize, scales };
  if (!shifts) {
    const bits = widthOf((half) => levels.every((level) => level >= -half && level < half));
    const middle = 2 ** (bits - 1);
    return grouped({ ...shared, bits, codes: codes.map((code) => levels[code] + middle) });
  }
  const bits = widthOf((half) => levels.length <= 2 * half);
  const zeros = zeroPoints(scales, minima, levels.length - 1);
  if (zeros) return grouped({ ...shared, bits, codes, zeros });
  return withOffsets(encoding, { ...shared, bits, codes }, minima, levels.length);
}

/** The narrowest codes that are wide enough. @param fits given half of the number of codes */
const widthOf = (fits: (half: number) => boolean): Width =>
  ([2, 4] as const).find((bits) => fits(2 ** (bits - 1))) ?? 8;

/** Undefined where a minimum is no whole number of scales. */
function zeroPoints(scales: Float32Array, minima: Float32Array, most: number): Uint8Array | undefined {
  const zeros = new Uint8Array(scales.length);
  for (let g = 0; g < scales.length; g++) {
    const zero = scales[g] === 0 ? 0 : minima[g] / scales[g];
    if (!Number.isInteger(zero) || zero < 0 || zero > most || zero * scales[g] !== minima[g]) return undefined;
    zeros[g] = zero;
  }
  return zeros;
}

/**
 * Codes count from the middle one, which offsets make up for; where that takes more digits than a float32 has, or codes
 * leave room below, they count from 0.
 */
function withOffsets(source: Encoding, codes: Codes, minima: Float32Array, count: number): Encoding {
  const middle = 2 ** (codes.bits - 1);
  const below = minima.map((minimum) => -minimum);
  if (count <= middle) {
    const moved = codes.codes.map((code) => code + middle);
    return shifted(packed({ ...codes, codes: moved }), below);
  }
  const offsets = below.map((offset, g) => middle * codes.scales[g] + offset);
  const plain = shifted(packed(codes), offsets);
  const expected = source.dense();
  if (equalValues(plain.dense(), expected)) return plain;
  const zeros = new Uint8Array(minima.length);
  const counted = shifted({ ...packed(codes, true), zeros }, below);
  if (equalValues(counted.dense(), expected)) return counted;
  throw new LapidaryError({
    what: 'these blocks are no grouped integers to the bit',
    where: `matrix [${source.shape.join(', ')}], ${source.label}`,
    fix: 'report it, with the file',
  });
}

function packed({ codes, ...rest }: Codes, zeroPoints = false): Omit<PackedCodes, 'zeros'> {
  const { columns, bits } = rest;
  const { block, blocks, fill } = packing({ ...rest, zeroPoints });
  return { ...rest, packed: pack(codes, columns, bits, blocks * block, fill) };
}

/** 0 and -0 are one value. */
export function equalValues(a: Float32Array, b: Float32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
