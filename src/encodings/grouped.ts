/**
 * Integers in groups along a row: w = (code - zero) * scale. Stored as ONNX Runtime's MatMulNBits reads them, so that
 * an export copies bytes; a tied embedding looks up rows of the same bytes.
 *
 * A group is one of the engine's blocks. A scale for a whole row is stored once and repeated inside the graph, where
 * the engine does it at load. Scales are stored in float16 where that loses nothing, else in float32.
 */

import { LapidaryError } from '../base/errors.ts';
import { findNonFinite } from '../base/finite.ts';
import { areNormalHalves, floatToHalf, toFloat32 } from '../base/half.ts';
import type { DType, Stored } from '../base/tensor.ts';
import { rowsOf, stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import { cast, expand } from '../graph/ops.ts';
import { blockProduct, widestBlock } from './block-product.ts';
import { decodedProduct } from './dense.ts';
import type { Encoding, EncodingAtRest, Place } from './encoding.ts';
import type { Bits } from './grid.ts';
import { lookup } from './lookup.ts';
import type { Width } from './pack.ts';
import { pack, packedLength, unpack } from './pack.ts';

const knownBits: readonly Bits[] = [2, 3, 4, 8];

/** Weights that share a scale: one of the engine's block sizes, or the whole row. */
export const groupSizes = [16, 32, 64, 128, 256] as const;
export type GroupSize = (typeof groupSizes)[number] | -1;

/** What a method chose for a matrix [rows, columns]; a row has ceil(columns / group) groups, or one. */
export interface GroupedCodes {
  readonly rows: number;
  readonly columns: number;
  readonly bits: Bits;
  readonly group: GroupSize;
  /** [rows, columns], 0 to 2^bits - 1. */
  readonly codes: Uint8Array;
  /** [rows, groups]. */
  readonly scales: Float32Array;
  /** [rows, groups], as codes; without them the middle one, 2^(bits - 1). */
  readonly zeros?: Uint8Array | undefined;
}

/** The same with codes that are packed already, as `packing` says. */
export interface PackedCodes extends Omit<GroupedCodes, 'codes'> {
  /** [rows, rowBytes]. */
  readonly packed: Uint8Array;
}

/** How the codes of a row are packed: low bits first, `shift` added to each, the end filled. */
export interface Packing {
  /** Bits that a code is stored in. */
  readonly width: Width;
  /** The engine's block: the group, or for whole rows the size that pads least. */
  readonly block: number;
  readonly blocks: number;
  readonly rowBytes: number;
  /** So that an implied zero point is the middle of the container. */
  readonly shift: number;
  /** Stands past the last column; engines do not read it. */
  readonly fill: number;
}

/** How codes of a row are packed, so that the engine reads them as they are. */
export function packing({
  columns,
  bits,
  group,
  zeroPoints,
}: Pick<GroupedCodes, 'columns' | 'bits' | 'group'> & { readonly zeroPoints: boolean }): Packing {
  const width = bits === 3 ? 4 : bits;
  const block = group === -1 ? leastPadding(columns, width) : group;
  const blocks = Math.ceil(columns / block);
  return {
    width,
    block,
    blocks,
    rowBytes: packedLength(blocks * block, width),
    shift: zeroPoints ? 0 : 2 ** (width - 1) - 2 ** (bits - 1),
    fill: zeroPoints ? 0 : 2 ** (width - 1),
  };
}

/** @throws LapidaryError on sizes that do not agree, scales that are not finite, and codes out of range. */
export function grouped({ codes, ...rest }: GroupedCodes): Encoding {
  const { rows, columns, bits, zeros } = rest;
  if (codes.length !== rows * columns) refuse(rest, 'as many codes as weights', `${codes.length}`);
  if (largest(codes) >= 2 ** bits) refuse(rest, `codes below ${2 ** bits}`, 'a larger one');
  const { width, block, blocks, shift, fill } = packing({ ...rest, zeroPoints: zeros !== undefined });
  const moved = shift === 0 ? codes : codes.map((code) => code + shift);
  return groupedPacked({ ...rest, packed: pack(moved, columns, width, blocks * block, fill) });
}

/** @throws LapidaryError on sizes that do not agree, and scales that are not finite. */
export function groupedPacked(parts: PackedCodes): Encoding {
  const { rows, bits, group, scales, zeros, packed } = parts;
  const layout: Layout = { ...parts, ...packing({ ...parts, zeroPoints: zeros !== undefined }) };
  const { blocks, rowBytes } = layout;
  const count = rows * groupsOf(parts);
  if (packed.length !== rows * rowBytes)
    refuse(parts, `${rows * rowBytes} bytes of codes`, `${packed.length}`);
  if (scales.length !== count || (zeros && zeros.length !== count)) {
    refuse(parts, `${count} scales and zero points`, `${scales.length} and ${zeros?.length ?? 'none'}`);
  }
  const bad = findNonFinite(stored('float32', [count], scales));
  if (bad) refuse(parts, 'finite scales', `${bad.value}`);
  if (zeros && largest(zeros) >= 2 ** bits) refuse(parts, `zero points below ${2 ** bits}`, 'a larger one');
  const tensors = new Map<string, Stored>([
    ['codes', stored('uint8', [rows, blocks, rowBytes / blocks], packed)],
    ['scales', storeScales(scales, rows)],
  ]);
  if (zeros) tensors.set('zeros', packZeros(zeros, rows, group, layout.width));
  return fromTensors(tensors, layout);
}

/**
 * Grouped integers from what they are at rest.
 * @throws LapidaryError on sizes that are none of ours, tensors that do not agree with them, and scales that are not finite
 */
export function restoreGrouped({ description, shape, tensors }: EncodingAtRest): Encoding {
  const [rows, columns] = shape;
  const { bits, group } = description as unknown as Pick<GroupedCodes, 'bits' | 'group'>;
  const sizes = { rows, columns, bits, group };
  if (!knownBits.includes(bits)) refuse(sizes, `${knownBits.join(', ')} bits`, `${bits}`);
  if (group !== -1 && !groupSizes.includes(group)) {
    refuse(sizes, `whole rows or groups of ${groupSizes.join(', ')}`, `${group}`);
  }
  const zeroPoints = tensors.has('zeros');
  const layout: Layout = { ...sizes, ...packing({ ...sizes, zeroPoints }) };
  const { width, blocks, rowBytes } = layout;
  const groups = groupsOf(sizes);
  const scales = tensors.get('scales');
  const scaleType = scales?.dtype === 'float16' ? 'float16' : 'float32';
  checkTensor(sizes, tensors, 'codes', 'uint8', [rows, blocks, rowBytes / blocks]);
  checkTensor(sizes, tensors, 'scales', scaleType, [rows, groups]);
  if (zeroPoints) {
    checkTensor(sizes, tensors, 'zeros', 'uint8', [rows, group === -1 ? 1 : packedLength(groups, width)]);
  }
  if (tensors.size > (zeroPoints ? 3 : 2)) refuse(sizes, 'no other tensors', [...tensors.keys()].join(', '));
  if (findNonFinite(scales!)) refuse(sizes, 'finite scales', 'others');
  return fromTensors(tensors, layout);
}

function checkTensor(
  sizes: Pick<GroupedCodes, 'rows' | 'columns'>,
  tensors: EncodingAtRest['tensors'],
  suffix: string,
  dtype: DType,
  shape: readonly number[],
): void {
  const tensor = tensors.get(suffix);
  const found = tensor && `${tensor.dtype} [${tensor.shape.join(', ')}]`;
  const expected = `${dtype} [${shape.join(', ')}]`;
  if (found !== expected) refuse(sizes, `${suffix}: ${expected}`, found ?? 'none');
}

type Layout = Pick<GroupedCodes, 'rows' | 'columns' | 'bits' | 'group'> & Packing;

/** Groups of a row. */
export const groupsOf = ({ columns, group }: Pick<GroupedCodes, 'columns' | 'group'>): number =>
  group === -1 ? 1 : Math.ceil(columns / group);

function refuse(
  { rows, columns }: Pick<GroupedCodes, 'rows' | 'columns'>,
  expected: string,
  found: string,
): never {
  throw new LapidaryError({
    what: 'these are no grouped integers',
    where: `matrix [${rows}, ${columns}]`,
    expected,
    found,
  });
}

function label({ bits, group }: Layout, zeroPoints: boolean): string {
  const container = bits === 3 ? '3-bit stored in 4' : `${bits}-bit`;
  return `${container}, ${group === -1 ? 'whole row' : `group ${group}`}${zeroPoints ? ', zero points' : ''}`;
}

function largest(codes: Uint8Array): number {
  let most = 0;
  for (let i = 0; i < codes.length; i++) most = Math.max(most, codes[i]);
  return most;
}

/** The block that pads a row least; of equals the largest that the engine is fast at, which has the fewest scales to read. */
function leastPadding(columns: number, width: Width): number {
  const padding = (block: number) => Math.ceil(columns / block) * block;
  return groupSizes
    .filter((block) => block <= widestBlock(width))
    .reduce((best, block) => (padding(block) <= padding(best) ? block : best));
}

/** float16 or float32 [rows, groups]. */
export function storeScales(scales: Float32Array, rows: number): Stored {
  const shape = [rows, scales.length / rows];
  return areNormalHalves(scales)
    ? stored('float16', shape, floatToHalf(scales))
    : stored('float32', shape, scales);
}

/** uint8 [rows, bytes of a row's zero points]; for whole rows one byte, filled with the one code. */
function packZeros(zeros: Uint8Array, rows: number, group: GroupSize, width: Width): Stored {
  const groups = zeros.length / rows;
  if (group !== -1) return stored('uint8', [rows, packedLength(groups, width)], pack(zeros, groups, width));
  const repeat = Array.from({ length: 8 / width }, (_, k) => 1 << (k * width)).reduce((a, b) => a + b);
  return stored(
    'uint8',
    [rows, 1],
    zeros.map((zero) => zero * repeat),
  );
}

function fromTensors(tensors: ReadonlyMap<string, Stored>, layout: Layout): Encoding {
  const { rows, columns, bits, group, width, block, blocks } = layout;

  /** The tensors as both operators take them: a scale and a zero point for each block. */
  function operands(place: Place, dtype: DType) {
    const put = (suffix: string): Value => place(suffix, tensors.get(suffix)!);
    const repeated = (value: Value, size: number) =>
      group === -1 && size > 1 ? expand(value, [rows, size]) : value;
    return {
      codes: put('codes'),
      scales: repeated(cast(put('scales'), dtype), blocks),
      zeroPoints: tensors.has('zeros') ? repeated(put('zeros'), packedLength(blocks, width)) : undefined,
    };
  }

  const some = (indices: readonly number[]) =>
    new Map([...tensors].map(([suffix, tensor]) => [suffix, rowsOf(tensor, indices)]));
  const shape = [rows, columns] as const;
  const dense = () => dequantize(ungrouped({ shape, bits: width, tensors })!);
  return {
    description: { kind: 'grouped', bits, group },
    label: label(layout, tensors.has('zeros')),
    shape,
    bits: width,
    tensors,
    dense,
    rows: (indices) =>
      dequantize(ungrouped({ shape: [indices.length, columns], bits: width, tensors: some(indices) })!),
    multiply: (x, place, { accuracy } = {}) =>
      x.graph.weightsAs === 'inputs'
        ? decodedProduct(x, place, { shape, dense })
        : blockProduct(x, operands(place, x.dtype), { rows, columns, bits: width, block }, accuracy),
    gather: (ids, place, dtype) => {
      const [codes, scales, zeros] = ['codes', 'scales', 'zeros'].map((suffix) => {
        const tensor = tensors.get(suffix);
        return tensor && place(suffix, tensor);
      });
      return lookup({ codes: codes!, scales: scales!, zeros }, ids, { width, columns, dtype });
    },
  };
}

function dequantize({ rows, columns, length, codes, scales, zeros }: UnpackedGroups): Float32Array {
  const values = new Float32Array(rows * columns);
  for (let row = 0, g = 0; row < rows; row++) {
    for (let start = 0; start < columns; start += length, g++) {
      const end = row * columns + Math.min(start + length, columns);
      const [zero, scale] = [zeros[g], scales[g]];
      for (let at = row * columns + start; at < end; at++) values[at] = (codes[at] - zero) * scale;
    }
  }
  return values;
}

/** What `grouped` was given, with codes in their container: bits are 2, 4 or 8, and every group has a zero point. */
export interface UnpackedGroups {
  readonly rows: number;
  readonly columns: number;
  readonly bits: Width;
  /** Weights that share a scale: all of a row, or this many from its start on. */
  readonly length: number;
  /** [rows, columns]. */
  readonly codes: Uint8Array;
  /** [rows, groups]. */
  readonly scales: Float32Array;
  readonly zeros: Uint8Array;
}

/** Undefined for encodings that are no grouped integers. */
export function ungrouped({
  shape,
  bits,
  tensors,
}: Pick<Encoding, 'shape' | 'bits' | 'tensors'>): UnpackedGroups | undefined {
  const packed = tensors.get('codes');
  const scales = tensors.get('scales');
  if (!packed || !scales) return undefined;
  const [rows, columns] = shape;
  const width = bits as Width;
  const [, blocks, blockBytes] = packed.shape;
  const groups = scales.shape[1];
  const packedZeros = tensors.get('zeros');
  return {
    rows,
    columns,
    bits: width,
    length: groups === 1 ? columns : (blockBytes * 8) / width,
    codes: unpack(packed.bytes(), blocks * blockBytes, columns, width),
    scales: toFloat32(scales),
    zeros: packedZeros
      ? unpack(packedZeros.bytes(), packedZeros.shape[1], groups, width)
      : new Uint8Array(rows * groups).fill(2 ** (width - 1)),
  };
}
