/** Grouped integers for checkpoint formats: codes in their own width, and checks of the sizes that a format takes. */

import { LapidaryError } from '../../base/errors.ts';
import { toFloat32 } from '../../base/half.ts';
import type { DType, Stored } from '../../base/tensor.ts';
import { byteLength, stored } from '../../base/tensor.ts';
import type { Encoding, EncodingAtRest } from '../../encodings/encoding.ts';
import type { GroupSize } from '../../encodings/grouped.ts';
import type { Bits } from '../../encodings/grid.ts';
import type { Width } from '../../encodings/pack.ts';
import { unpack } from '../../encodings/pack.ts';
import type { FloatName } from './floats.ts';
import { asFloats } from './floats.ts';

/** w = (code - zero) * scale. */
export interface Integers {
  readonly rows: number;
  readonly columns: number;
  /** As the method chose them: 3 where codes are held in four. */
  readonly bits: Bits;
  readonly group: GroupSize;
  /** [rows, columns]. */
  readonly codes: Uint8Array;
  /** [rows, groups]. */
  readonly scales: Float32Array;
  /** [rows, groups]. */
  readonly zeros: Uint8Array;
}

export interface IntegerSizes extends Pick<Integers, 'rows' | 'columns' | 'bits' | 'group'> {
  readonly groups: number;
  /** Whether every zero point is 2^(bits - 1). */
  readonly symmetric: boolean;
}

/** What of an encoding its integers are read from. */
type Grouped = EncodingAtRest & Pick<Encoding, 'bits'>;

/** Undefined for encodings that are no grouped integers; reads none of their bytes. */
export function integerSizes({ description, shape, tensors }: EncodingAtRest): IntegerSizes | undefined {
  if (description.kind !== 'grouped') return undefined;
  const [rows, columns] = shape;
  const { bits, group } = description as unknown as Pick<Integers, 'bits' | 'group'>;
  const groups = tensors.get('scales')!.shape[1];
  return { rows, columns, bits, group, groups, symmetric: !tensors.has('zeros') };
}

/** The integers of an encoding that has `integerSizes`. */
export function integersOf(encoding: Grouped): Integers {
  const { bits, rows, columns, group } = integerSizes(encoding)!;
  const [packed, width] = [encoding.tensors.get('codes')!, encoding.bits as Width];
  const [, blocks, blockBytes] = packed.shape;
  const codes = unpack(packed.bytes(), blocks * blockBytes, columns, width);
  // Without zero points of their own, codes were moved to the middle of their container.
  const moved = encoding.tensors.has('zeros') ? 0 : 2 ** (width - 1) - 2 ** (bits - 1);
  if (moved > 0) for (let i = 0; i < codes.length; i++) codes[i] -= moved;
  return { rows, columns, bits, group, codes, scales: scalesOf(encoding), zeros: zerosOf(encoding) };
}

/** Of grouped integers: [rows, groups]. */
export const scalesOf = ({ tensors }: EncodingAtRest): Float32Array => toFloat32(tensors.get('scales')!);

/** Of grouped integers, the implied ones too: [rows, groups]. */
export function zerosOf(encoding: Grouped): Uint8Array {
  const { rows, groups, bits } = integerSizes(encoding)!;
  const packed = encoding.tensors.get('zeros');
  if (!packed) return new Uint8Array(rows * groups).fill(2 ** (bits - 1));
  return unpack(packed.bytes(), packed.shape[1], groups, encoding.bits as Width);
}

/** The largest of these group sizes that an encoding's groups are made of; undefined where there is none. */
export function groupAmong(
  { columns, group }: Pick<Integers, 'columns' | 'group'>,
  candidates: readonly number[],
): number | undefined {
  const length = group === -1 ? columns : group;
  const found = candidates.filter((size) => length % size === 0 && columns % size === 0);
  return found.length === 0 ? undefined : Math.max(...found);
}

/** What belongs to groups [rows, groups], repeated for the smaller ones that they are made of. */
export function regrouped<T extends Uint8Array | Float32Array>(
  values: T,
  { rows, columns, group, groups }: IntegerSizes,
  size: number,
): T {
  if (size === group || size === columns) return values;
  const [length, perRow] = [group === -1 ? columns : group, columns / size];
  const result = new (values.constructor as new (length: number) => T)(rows * perRow);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let k = 0; k < perRow; k++, at++)
      result[at] = values[row * groups + Math.floor((k * size) / length)];
  }
  return result;
}

/** A tensor that is made each time its bytes are asked for: a model is never held twice. */
export function made(dtype: DType, shape: readonly number[], make: () => ArrayBufferView): Stored {
  const bytes = () => {
    const { buffer, byteOffset, byteLength } = make();
    return new Uint8Array(buffer, byteOffset, byteLength);
  };
  return { dtype, shape, byteLength: byteLength(dtype, shape), bytes };
}

/** @throws LapidaryError where a float type does not hold scales or biases to the bit */
export function checkExact(
  format: string,
  { shape: [rows, columns] }: Pick<Encoding, 'shape'>,
  values: Float32Array,
  floats: FloatName = 'float16',
): void {
  const held = asFloats(values, floats);
  const again = toFloat32(stored(floats, [values.length], held));
  const lost = values.filter((value, i) => again[i] !== value);
  if (lost.length === 0) return;
  refuse(
    format,
    { rows, columns },
    {
      expected: `scales that ${floats} holds`,
      found: `${lost.length} of ${values.length} that it does not, such as ${lost[0]}`,
      fix: 'use --format onnx, which holds float32 scales, or another --method than keep',
    },
  );
}

/** @throws LapidaryError */
export function refuse(
  format: string,
  { rows, columns }: Pick<Integers, 'rows' | 'columns'>,
  problem: { readonly expected: string; readonly found: string; readonly fix?: string | undefined },
): never {
  throw new LapidaryError({
    what: `${format} does not hold this matrix`,
    where: `matrix [${rows}, ${columns}]`,
    ...problem,
  });
}
