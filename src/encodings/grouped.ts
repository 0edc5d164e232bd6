/**
 * Integers in groups along a row: w = (code - zero) * scale. Stored as ONNX Runtime's MatMulNBits reads them, so that
 * an export copies bytes; a tied embedding reads the same bytes through GatherBlockQuantized.
 *
 * A group is one of the engine's blocks. A scale for a whole row is stored once and repeated inside the graph, where
 * the engine does it at load. Scales are stored in float16 where that loses nothing, else in float32.
 */

import { LapidaryError } from '../base/errors.ts';
import { halfCode, halfValue, toFloat32 } from '../base/half.ts';
import type { DType, Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { Value } from '../graph/graph.ts';
import { cast, expand, gatherBlockQuantized, matMulNBits, reshape, slice } from '../graph/ops.ts';
import type { Encoding, Place } from './encoding.ts';
import type { Bits } from './grid.ts';
import type { Width } from './pack.ts';
import { pack, packedLength, unpack } from './pack.ts';

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

/** How codes lie in memory; what `grouped` derives from a matrix's shape and bits. */
interface Layout {
  readonly rows: number;
  readonly columns: number;
  readonly group: GroupSize;
  readonly width: Width;
  /** The engine's block: the group, or for whole rows the size that pads least. */
  readonly block: number;
  readonly blocks: number;
  /** Added to every code so that an implied zero point is the middle of the container. */
  readonly shift: number;
}

/** @throws LapidaryError on sizes that do not agree, scales that are not finite, and codes out of range. */
export function grouped(parts: GroupedCodes): Encoding {
  check(parts);
  const { rows, columns, bits, group, scales, zeros } = parts;
  const width = bits === 3 ? 4 : bits;
  const block = group === -1 ? leastPadding(columns) : group;
  const shift = zeros ? 0 : 2 ** (width - 1) - 2 ** (bits - 1);
  const layout: Layout = { rows, columns, group, width, block, blocks: Math.ceil(columns / block), shift };
  const tensors = new Map<string, Stored>([
    ['codes', packCodes(parts, layout)],
    ['scales', storeScales(scales, rows)],
  ]);
  if (zeros) tensors.set('zeros', packZeros(zeros, layout));
  return fromTensors(tensors, layout, label(parts));
}

function label({ bits, group, zeros }: GroupedCodes): string {
  const container = bits === 3 ? '3-bit stored in 4' : `${bits}-bit`;
  return `${container}, ${group === -1 ? 'whole row' : `group ${group}`}${zeros ? ', zero points' : ''}`;
}

function check({ rows, columns, bits, group, codes, scales, zeros }: GroupedCodes): void {
  const groups = group === -1 ? 1 : Math.ceil(columns / group);
  const where = `grouped integers [${rows}, ${columns}]`;
  const sizes = [codes.length, scales.length, zeros?.length ?? rows * groups];
  const expected = [rows * columns, rows * groups, rows * groups];
  if (rows < 1 || columns < 1 || sizes.some((size, i) => size !== expected[i])) {
    throw new LapidaryError({
      what: 'codes, scales and zero points do not fit the shape',
      where,
      expected: expected.join(', '),
      found: sizes.join(', '),
    });
  }
  const bad = scales.findIndex((scale) => !Number.isFinite(scale));
  if (bad >= 0) {
    throw new LapidaryError({ what: `the scale of row ${Math.floor(bad / groups)} is ${scales[bad]}`, where });
  }
  const top = 2 ** bits - 1;
  if (codes.some((code) => code > top) || zeros?.some((zero) => zero > top)) {
    throw new LapidaryError({ what: 'a code is out of range', where, expected: `0 to ${top}` });
  }
}

/** The block that pads a row least; of equals the largest, which has the fewest scales to read. */
function leastPadding(columns: number): number {
  const padding = (block: number) => Math.ceil(columns / block) * block;
  return groupSizes.reduce((best, block) => (padding(block) <= padding(best) ? block : best));
}

/** uint8 [rows, blocks, bytes of a block]; engines do not read the last block's padding. */
function packCodes({ codes, columns, zeros }: GroupedCodes, layout: Layout): Stored {
  const { rows, blocks, block, width, shift } = layout;
  const moved = shift === 0 ? codes : codes.map((code) => code + shift);
  const packed = pack(moved, columns, width, blocks * block, zeros ? 0 : 2 ** (width - 1));
  return stored('uint8', [rows, blocks, packedLength(block, width)], packed);
}

/** float16 or float32 [rows, groups]. */
function storeScales(scales: Float32Array, rows: number): Stored {
  const halves = Uint16Array.from(scales, halfCode);
  const shape = [rows, scales.length / rows];
  const exact = scales.every((scale, i) => halfValue(halves[i]) === scale && Math.abs(scale) >= 2 ** -14);
  return exact ? stored('float16', shape, halves) : stored('float32', shape, scales);
}

/** uint8 [rows, bytes of a row's zero points]; for whole rows one byte, filled with the one code. */
function packZeros(zeros: Uint8Array, { rows, group, width }: Layout): Stored {
  const groups = zeros.length / rows;
  if (group !== -1) return stored('uint8', [rows, packedLength(groups, width)], pack(zeros, groups, width));
  const repeat = Array.from({ length: 8 / width }, (_, k) => 1 << (k * width)).reduce((a, b) => a + b);
  return stored(
    'uint8',
    [rows, 1],
    zeros.map((zero) => zero * repeat),
  );
}

function fromTensors(tensors: ReadonlyMap<string, Stored>, layout: Layout, label: string): Encoding {
  const { rows, columns, width, block, blocks } = layout;

  /** The tensors as both operators take them: a scale and a zero point for each block. */
  function operands(place: Place, dtype: DType) {
    const put = (suffix: string): Value => place(suffix, tensors.get(suffix)!);
    const repeated = (value: Value, size: number) =>
      layout.group === -1 && size > 1 ? expand(value, [rows, size]) : value;
    return {
      codes: put('codes'),
      scales: repeated(cast(put('scales'), dtype), blocks),
      zeroPoints: tensors.has('zeros') ? repeated(put('zeros'), packedLength(blocks, width)) : undefined,
    };
  }

  return {
    label,
    shape: [rows, columns],
    bits: width,
    tensors,
    dense: () => dequantize(tensors, layout),
    multiply: (x, place, { accuracy = 0 } = {}) =>
      matMulNBits(x, operands(place, x.dtype), { rows, columns, bits: width, block, accuracy }),
    gather: (ids, place, dtype) => {
      const { codes, ...rest } = operands(place, dtype);
      const flat = reshape(codes, [rows, packedLength(blocks * block, width)]);
      const found = gatherBlockQuantized({ codes: flat, ...rest }, ids, { bits: width, block });
      return blocks * block === columns ? found : slice(found, -1, 0, columns, columns);
    },
  };
}

function dequantize(tensors: ReadonlyMap<string, Stored>, layout: Layout): Float32Array {
  const { rows, columns, width, group, blocks, block } = layout;
  const codes = unpack(tensors.get('codes')!.bytes(), packedLength(blocks * block, width), columns, width);
  const scales = toFloat32(tensors.get('scales')!);
  const size = group === -1 ? columns : group;
  const groups = scales.length / rows;
  const packedZeros = tensors.get('zeros');
  const zeros = packedZeros && unpack(packedZeros.bytes(), packedZeros.shape[1], groups, width);
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let start = 0, g = row * groups; start < columns; start += size, g++) {
      const zero = zeros ? zeros[g] : 2 ** (width - 1);
      const end = row * columns + Math.min(start + size, columns);
      for (let at = row * columns + start; at < end; at++) values[at] = (codes[at] - zero) * scales[g];
    }
  }
  return values;
}
