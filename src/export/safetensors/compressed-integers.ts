/** Integers as compressed-tensors stores them; see src/models/quantized/compressed-integers.ts for the layout. */

import { LapidaryError } from '../../base/errors.ts';
import type { Stored } from '../../base/tensor.ts';
import { stored } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { packing } from '../../encodings/grouped.ts';
import { integerParts } from '../../encodings/integer.ts';
import { baseDescription } from '../../encodings/rounded.ts';
import { packWords, turned, wordCount } from '../../encodings/words.ts';
import type { StoredScheme } from './stored-scheme.ts';
import type { FloatName } from './floats.ts';
import { asFloats } from './floats.ts';
import type { IntegerSizes } from './integers.ts';
import { integersOf, integerSizes, made } from './integers.ts';

/** @throws LapidaryError on groups that the format does not hold; undefined where the encoding is no integers */
export function intScheme(encoding: Encoding, floats: FloatName): StoredScheme | undefined {
  if (encoding.description.kind === 'integers') return rows(encoding);
  if (encoding.description.kind === 'rounded') return groupsWithInputs(encoding, floats);
  const sizes = integerSizes(encoding);
  return sizes && packed(encoding, sizes, floats);
}

/** W8A8: rows of 8 bits, inputs by token or by a stored scale. Scales are float32, as vLLM takes them. */
function rows(encoding: Encoding): StoredScheme {
  const { shape, tensors } = encoding;
  const input = tensors.get('input');
  return {
    format: 'int-quantized',
    type: 'W8A8',
    weights: weightArguments({ bits: 8, group: -1, symmetric: true }),
    inputs: inputArguments(8, input === undefined),
    tensors: new Map([
      ['weight', made('int8', shape, () => integerParts(encoding)!.codes)],
      ['weight_scale', made('float32', [shape[0], 1], () => integerParts(encoding)!.scales)],
      ...(input ? [['input_scale', input] as const] : []),
    ]),
  };
}

/** Inputs rounded in front of groups (W4A8): codes in a byte each. */
function groupsWithInputs(encoding: Encoding, floats: FloatName): StoredScheme | undefined {
  const base = { ...encoding, description: baseDescription(encoding.description.base) };
  const sizes = integerSizes(base);
  if (!sizes) return undefined;
  checkSizes(sizes);
  const { symmetric, bits } = sizes;
  if (!symmetric)
    refuse(sizes, 'no zero points where inputs are rounded', 'zero points', 'choose symmetric: true');
  return {
    format: 'int-quantized',
    type: `W${bits}A${encoding.inputBits}`,
    weights: weightArguments(sizes),
    inputs: inputArguments(encoding.inputBits!, true),
    tensors: new Map([
      [
        'weight',
        made('int8', encoding.shape, () =>
          Int8Array.from(integersOf(base).codes, (code) => code - 2 ** (bits - 1)),
        ),
      ],
      ['weight_scale', scales(base, sizes, floats)],
    ]),
  };
}

/** Weights alone. Three bits with zero points stand in four: no engine has these in three. */
function packed(encoding: Encoding, sizes: IntegerSizes, floats: FloatName): StoredScheme {
  checkSizes(sizes);
  const { rows, columns, symmetric, groups } = sizes;
  const bits = sizes.bits === 3 && !symmetric ? 4 : sizes.bits;
  const tensors = new Map<string, Stored>([
    ['weight_packed', packedCodes(encoding, sizes, bits)],
    ['weight_scale', scales(encoding, sizes, floats)],
    ['weight_shape', stored('int64', [2], BigInt64Array.of(BigInt(rows), BigInt(columns)))],
  ]);
  if (!symmetric) {
    const words = wordCount(rows, bits);
    const zeros = () => turned(packWords(turned(integersOf(encoding).zeros, groups), rows, bits), words);
    tensors.set('weight_zero_point', made('int32', [words, groups], zeros));
  }
  return {
    format: 'pack-quantized',
    type: `W${bits}A16`,
    weights: weightArguments({ ...sizes, bits }),
    tensors,
  };
}

function packedCodes(encoding: Encoding, sizes: IntegerSizes, bits: number): Stored {
  const { rows, columns } = sizes;
  const shape = [rows, wordCount(columns, bits)];
  const { width, block } = packing({ ...sizes, zeroPoints: !sizes.symmetric });
  // Whole blocks of codes that fill their containers are the same bytes here and there.
  if (width === bits && columns % block === 0 && (columns * bits) % 32 === 0)
    return { ...encoding.tensors.get('codes')!, dtype: 'int32', shape };
  return made('int32', shape, () => packWords(integersOf(encoding).codes, columns, bits));
}

function checkSizes(sizes: IntegerSizes): void {
  const { columns, group } = sizes;
  if (group === -1 || columns % group === 0) return;
  refuse(
    sizes,
    `rows of whole groups of ${group}`,
    `${columns} weights`,
    `choose group: ${[128, 64, 32].find((size) => size < group && columns % size === 0) ?? -1}`,
  );
}

function refuse({ columns }: IntegerSizes, expected: string, found: string, fix: string): never {
  throw new LapidaryError({
    what: 'compressed-tensors does not hold this matrix',
    where: `rows of ${columns}`,
    expected,
    found,
    fix,
  });
}

/** [rows, groups] */
const scales = (encoding: Encoding, { rows, groups }: IntegerSizes, floats: FloatName): Stored =>
  made(floats, [rows, groups], () => asFloats(integersOf(encoding).scales, floats));

const weightArguments = ({
  bits,
  group,
  symmetric,
}: Pick<IntegerSizes, 'symmetric'> & { readonly bits: number; readonly group: number }) => ({
  num_bits: bits,
  type: 'int',
  symmetric,
  strategy: group === -1 ? 'channel' : 'group',
  group_size: group === -1 ? null : group,
  dynamic: false,
});

const inputArguments = (bits: number, dynamic: boolean) => ({
  num_bits: bits,
  type: 'int',
  symmetric: true,
  strategy: dynamic ? 'token' : 'tensor',
  group_size: null,
  dynamic,
});
