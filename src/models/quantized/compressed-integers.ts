/**
 * Integers as compressed-tensors stores them. Packed: weight_packed int32 [out, in * bits / 32] and weight_shape; or plain:
 * weight int8 [out, in]. weight_scale [out, groups], and where they are not symmetric weight_zero_point, packed down the
 * rows or int8 [out, groups].
 */

import { toFloat32 } from '../../base/half.ts';
import { elementCount } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import type { Bits } from '../../encodings/grid.ts';
import { groupedPacked, packing } from '../../encodings/grouped.ts';
import { integers } from '../../encodings/integer.ts';
import { turned, unpackWords, wordCount } from '../../encodings/words.ts';
import type { Scheme, WeightScheme } from './scheme.ts';
import type { Integers } from './integers.ts';
import { groupOf, halfEncoding, integerEncoding } from './integers.ts';
import type { MatrixTensors } from './tensors.ts';
import { floats, refuse, tensorOf, wordsOf } from './tensors.ts';

const knownBits = [2, 3, 4, 8] as const;

/**
 * @returns the encoding, and whether it rounds its inputs already
 * @throws LapidaryError on tensors that do not agree with the scheme or each other
 */
export function intMatrix(
  tensors: MatrixTensors,
  { weights, inputs }: Scheme,
): { readonly encoding: Encoding; readonly rounded: boolean } {
  const { strategy, symmetric } = weights;
  const bits = knownBits.find((known) => known === weights.bits);
  if (bits === undefined) return refuse('weights.num_bits', knownBits.join(', '), `${weights.bits}`);
  if (strategy !== 'group' && strategy !== 'channel' && strategy !== 'tensor')
    return refuse('weights.strategy', 'group, channel or tensor', strategy);
  if (inputs && inputs.type !== 'int') return refuse('input_activations.type', '"int"', inputs.type);
  const { rows, columns, codes, packed } = codesOf(tensors, bits);
  const groups = weights.group === -1 ? 1 : Math.ceil(columns / weights.group);
  const scales = scalesOf(tensors, weights, [rows, groups]);
  const plain = bits === 8 && weights.group === -1 && symmetric && inputs?.bits === 8;
  const input = inputs && !inputs.dynamic ? inputScale(tensors) : undefined;
  if (plain) {
    const signed = Int8Array.from(codes(), (code) => code - 128);
    return { encoding: integers({ rows, columns, codes: signed, scales, input }), rounded: true };
  }
  if (input !== undefined) return refuse('input_scale', 'inputs by token, or 8-bit rows', 'one stored scale');
  const zeros = symmetric
    ? new Uint8Array(rows * groups).fill(2 ** (bits - 1))
    : zerosOf(tensors, bits, [rows, groups]);
  const parts = { rows, columns, bits, group: weights.group, scales, zeros };
  const read = (): Integers => ({ ...parts, codes: codes() });
  return { encoding: encodingOf(parts, read, packed, tensors), rounded: false };
}

/** Grouped where groups are ours and in the order of the columns; otherwise the values that the codes stand for. */
function encodingOf(
  parts: Omit<Integers, 'codes'>,
  read: () => Integers,
  packed: Uint8Array | undefined,
  tensors: MatrixTensors,
): Encoding {
  const { rows, columns, bits, group, zeros } = parts;
  const groups = zeros.length / rows;
  const index = tensors.has('weight_g_idx') ? groupIndex(tensors, columns, groups) : undefined;
  const inOrder = !index || index.every((of, i) => of === (group === -1 ? 0 : Math.floor(i / group)));
  const size = groupOf(group, columns);
  if (!inOrder || size === undefined) return halfEncoding([rows, columns], read, index);
  const { width, block } = packing({ columns, bits, group: size, zeroPoints: true });
  // Whole blocks of codes that fill their containers are the same bytes here and there.
  if (!packed || width !== bits || columns % block !== 0) return integerEncoding({ ...read(), group: size });
  const symmetric = zeros.every((zero) => zero === 2 ** (bits - 1));
  return groupedPacked({ ...parts, group: size, packed, zeros: symmetric ? undefined : zeros });
}

interface Codes {
  readonly rows: number;
  readonly columns: number;
  /** From 0 on, [rows, columns]. */
  codes(): Uint8Array;
  /** As one stream of bits in every row, which starts at a word. */
  readonly packed?: Uint8Array | undefined;
}

function codesOf(tensors: MatrixTensors, bits: Bits): Codes {
  if (!tensors.has('weight_packed')) {
    const { shape, bytes } = tensorOf(tensors, 'weight', ['int8']);
    const middle = 2 ** (bits - 1);
    const codes = Uint8Array.from(new Int8Array(bytes().slice().buffer), (code) => code + middle);
    if (codes.some((code) => code >= 2 ** bits)) refuse('weight', `integers of ${bits} bits`, 'larger ones');
    return { rows: shape[0], columns: shape[1], codes: () => codes };
  }
  const packed = tensorOf(tensors, 'weight_packed', ['int32']);
  const [rows, columns] = shapeOf(tensors);
  const perWord = Math.floor(32 / bits);
  // Earlier releases put no code across two words; for widths that divide 32 it is the same.
  const stream = packed.shape[1] === wordCount(columns, bits);
  if (packed.shape[0] !== rows || !(stream || packed.shape[1] === Math.ceil(columns / perWord))) {
    refuse('weight_packed', `[${rows}, ${wordCount(columns, bits)}]`, `[${packed.shape.join(', ')}]`);
  }
  if (!stream) return { rows, columns, codes: () => apart(wordsOf(packed), columns, bits) };
  const codes = () => unpackWords(wordsOf(packed), columns, bits);
  return { rows, columns, codes, packed: new Uint8Array(packed.bytes()) };
}

/** Words that each hold whole codes, from their lowest bits on. */
function apart(words: Uint32Array, columns: number, bits: Bits): Uint8Array {
  const perWord = Math.floor(32 / bits);
  const length = Math.ceil(columns / perWord);
  const rows = words.length / length;
  const codes = new Uint8Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const word = words[row * length + Math.floor(column / perWord)];
      codes[row * columns + column] = (word >>> ((column % perWord) * bits)) & (2 ** bits - 1);
    }
  }
  return codes;
}

/** weight_shape, int64 [2] (int32 in some files). */
function shapeOf(tensors: MatrixTensors): readonly [rows: number, columns: number] {
  const tensor = tensorOf(tensors, 'weight_shape', ['int64', 'int32'], [2]);
  const buffer = tensor.bytes().slice().buffer;
  const sizes = Array.from(
    tensor.dtype === 'int64' ? new BigInt64Array(buffer) : new Int32Array(buffer),
    Number,
  );
  if (!sizes.every((size) => Number.isSafeInteger(size) && size > 0))
    refuse('weight_shape', 'two whole numbers above 0', sizes.join(', '));
  return sizes as [number, number];
}

/** [rows, groups]; a single one is for all. */
function scalesOf(
  tensors: MatrixTensors,
  { strategy }: WeightScheme,
  shape: readonly [number, number],
): Float32Array {
  if (strategy === 'tensor') return new Float32Array(shape[0]).fill(singleScale(tensors, 'weight_scale'));
  return toFloat32(tensorOf(tensors, 'weight_scale', floats, shape));
}

/** One number, whatever the shape it is stored in. @throws LapidaryError */
export function singleScale(tensors: MatrixTensors, suffix: string): number {
  const tensor = tensors.get(suffix);
  const found = tensor ? `${tensor.dtype} [${tensor.shape.join(', ')}]` : 'none';
  if (!tensor || elementCount(tensor.shape) !== 1 || !floats.includes(tensor.dtype))
    return refuse(suffix, 'one number', found);
  return toFloat32(tensor)[0];
}

const inputScale = (tensors: MatrixTensors): number => singleScale(tensors, 'input_scale');

/** [rows, groups] */
function zerosOf(tensors: MatrixTensors, bits: Bits, [rows, groups]: readonly [number, number]): Uint8Array {
  const middle = 2 ** (bits - 1);
  const tensor = tensors.get('weight_zero_point');
  if (tensor?.dtype === 'int8') {
    const { bytes } = tensorOf(tensors, 'weight_zero_point', ['int8'], [rows, groups]);
    const zeros = Uint8Array.from(new Int8Array(bytes().slice().buffer), (zero) => zero + middle);
    if (zeros.some((zero) => zero >= 2 ** bits))
      refuse('weight_zero_point', `${bits}-bit codes`, 'larger ones');
    return zeros;
  }
  const words = wordsOf(tensorOf(tensors, 'weight_zero_point', ['int32'], [wordCount(rows, bits), groups]));
  return turned(unpackWords(turned(words, groups), rows, bits), rows);
}

/** [columns] */
function groupIndex(tensors: MatrixTensors, columns: number, groups: number): Int32Array {
  const index = new Int32Array(wordsOf(tensorOf(tensors, 'weight_g_idx', ['int32'], [columns])).buffer);
  const bad = index.find((of) => of < 0 || of >= groups);
  if (bad !== undefined) refuse('weight_g_idx', `groups below ${groups}`, `${bad}`);
  return index;
}
