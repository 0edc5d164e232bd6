/**
 * Blocks of ggml as grouped integers, without loss: what the graphs of ONNX multiply, and other checkpoint formats hold. A
 * part of a block is a group. Levels of types without minima are whole numbers, which a code's distance from the middle
 * holds at 2, 4 or 8 bits. A minimum that is a whole number of scales is a zero point; others are offsets of floats.
 */

import type { Encoding } from '../encoding.ts';
import type { GroupSize } from '../grouped.ts';
import { grouped } from '../grouped.ts';
import { affine } from '../affine.ts';
import type { Width } from '../pack.ts';
import { blockTypeNamed } from './table.ts';

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
  return affine({ ...shared, bits, codes, biases: minima.map((minimum) => -minimum), count: levels.length });
}

/** The narrowest codes that are wide enough. @param fits given half of the number of codes */
const widthOf = (fits: (half: number) => boolean): Width =>
  ([2, 4] as const).find((bits) => fits(2 ** (bits - 1))) ?? 8;

/** Undefined where a minimum is no whole number of scales. */
function zeroPoints(scales: Float32Array, minima: Float32Array, most: number): Uint8Array | undefined {
  const zeros = new Uint8Array(scales.length);
  for (let g = 0; g < scales.length; g++) {
    const zero = scales[g] === 0 ? 0 : minima[g] / scales[g];
    if (!Number.isInteger(zero) || zero < 0 || zero > most || zero * scales[g] !== minima[g])
      return undefined;
    zeros[g] = zero;
  }
  return zeros;
}
