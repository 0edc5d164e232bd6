/** What GPTQ's, AWQ's and MLX's formats store of a matrix reads back as the same values. */

import { describe, expect, it } from 'vitest';
import { random } from '../../base/random.ts';
import { halfCode, halfValue } from '../../base/half.ts';
import { stored } from '../../base/tensor.ts';
import { denseValues } from '../../encodings/dense.ts';
import type { GroupSize } from '../../encodings/grouped.ts';
import { grouped } from '../../encodings/grouped.ts';
import type { Bits } from '../../encodings/grid.ts';
import { awqEncoding } from '../../models/quantized/awq.ts';
import { gptqEncoding } from '../../models/quantized/gptq.ts';
import { mlxEncoding } from '../../models/quantized/mlx.ts';
import { awqGroup, awqTensors } from './awq.ts';
import { gptqTensors } from './gptq.ts';
import { integerSizes } from './integers.ts';
import { mlxTensors } from './mlx.ts';

const source = random(7);

function matrix(
  bits: Bits,
  group: GroupSize,
  symmetric: boolean,
  [rows, columns] = [32, 96],
  lowestZero = 1,
) {
  const groups = group === -1 ? 1 : Math.ceil(columns / group);
  const integers = (count: number, low: number, high: number) =>
    Uint8Array.from({ length: count }, () => low + source.integer(high - low));
  return grouped({
    rows,
    columns,
    bits,
    group,
    codes: integers(rows * columns, 0, 2 ** bits),
    // With few digits, so that products with zero points are float16 as well.
    scales: Float32Array.from({ length: rows * groups }, () => (1 + source.integer(7)) / 512),
    zeros: symmetric ? undefined : integers(rows * groups, lowestZero, 2 ** bits),
  });
}

const widths = ([2, 3, 4, 8] as const).flatMap((bits) =>
  ([32, 64, -1] as const).flatMap((group) => [true, false].map((symmetric) => ({ bits, group, symmetric }))),
);

describe("GPTQ's format", () => {
  it.each(widths)(
    'gives $bits bits in groups of $group back, symmetric $symmetric',
    ({ bits, group, symmetric }) => {
      const encoding = matrix(bits, group, symmetric);
      for (const version of [1, 2] as const) {
        const read = gptqEncoding(gptqTensors(encoding, { version })!, { bits, group, version });
        expect(read.label).toBe(encoding.label);
        expect(read.dense()).toEqual(encoding.dense());
      }
    },
  );

  it('packs codes down the rows of [in, out], first in the lowest bits, and version 1 stores zero points less one', () => {
    const encoding = grouped({
      rows: 32,
      columns: 32,
      bits: 4,
      group: 32,
      codes: Uint8Array.from({ length: 32 * 32 }, (_, i) => (i < 32 ? i % 16 : 0)),
      scales: new Float32Array(32).fill(0.5),
      zeros: new Uint8Array(32).fill(5),
    });
    const tensors = gptqTensors(encoding, { version: 1 })!;
    const words = (suffix: string) => new Uint32Array(new Uint8Array(tensors.get(suffix)!.bytes()).buffer);
    expect(tensors.get('qweight')!.shape).toEqual([4, 32]);
    expect(words('qweight')[0]).toBe(0x76543210);
    expect(words('qweight')[32]).toBe(0xfedcba98);
    expect(words('qzeros')[0]).toBe(0x44444444);
    const second = gptqTensors(encoding, { version: 2 })!.get('qzeros')!;
    expect(second.bytes()[0]).toBe(0x55);
  });

  it('reads zero points that version 1 borrowed for, as GPTQModel writes them', () => {
    const encoding = matrix(4, 32, false, [32, 32], 0);
    const tensors = gptqTensors(encoding, { version: 2 })!;
    const zeros = new Uint32Array(new Uint8Array(tensors.get('qzeros')!.bytes()).buffer);
    tensors.set(
      'qzeros',
      stored(
        'int32',
        [1, 4],
        zeros.map((word) => word - 0x11111111),
      ),
    );
    const read = gptqEncoding(tensors, { bits: 4, group: 32, version: 1 });
    expect(read.dense()).toEqual(encoding.dense());
  });

  it('reads inputs in another order (act-order) as the values they stand for', () => {
    const encoding = matrix(4, 32, true);
    const tensors = gptqTensors(encoding, { version: 2 })!;
    // Column i is of group i % 3 rather than floor(i / 32).
    tensors.set(
      'g_idx',
      stored(
        'int32',
        [96],
        Int32Array.from({ length: 96 }, (_, i) => i % 3),
      ),
    );
    const read = gptqEncoding(tensors, { bits: 4, group: 32, version: 2 });
    const [codes, scales] = [encoding.dense(), gptqScales(encoding)];
    const expected = codes.map((value, i) => {
      const [row, column] = [Math.floor(i / 96), i % 96];
      const level = value / scales[row * 3 + Math.floor(column / 32)];
      return halfValue(halfCode(level * scales[row * 3 + (column % 3)]));
    });
    expect(read.label).toBe('float16');
    expect(read.dense()).toEqual(expected);
  });

  it('refuses sizes that are no whole words, and tensors that do not agree', () => {
    expect(() => gptqTensors(matrix(4, 32, true, [24, 32]), { version: 1 })).toThrow('multiples of 32');
    const tensors = gptqTensors(matrix(4, 32, true), { version: 1 })!;
    expect(() => gptqEncoding(tensors, { bits: 8, group: 32, version: 1 })).toThrow('qzeros');
    expect(() => gptqEncoding(tensors, { bits: 4, group: 64, version: 1 })).toThrow('qzeros');
    tensors.delete('scales');
    expect(() => gptqEncoding(tensors, { bits: 4, group: 32, version: 1 })).toThrow('scales');
  });

  it('leaves what is no grouped integers to others', () => {
    expect(gptqTensors(denseValues(new Float32Array(64), 8, 8), { version: 1 })).toBeUndefined();
  });
});

describe("AWQ's format", () => {
  it.each(widths.filter(({ bits, group }) => bits === 4 && group !== 64))(
    'gives groups of $group back, symmetric $symmetric',
    ({ bits, group, symmetric }) => {
      const encoding = matrix(bits, group, symmetric);
      const read = awqEncoding(awqTensors(encoding, { group })!, { group });
      expect(read.label).toBe(encoding.label);
      expect(read.dense()).toEqual(encoding.dense());
    },
  );

  it('has the even columns of eight in the low half of a word', () => {
    const encoding = grouped({
      rows: 8,
      columns: 16,
      bits: 4,
      group: 16,
      codes: Uint8Array.from({ length: 8 * 16 }, (_, i) => Math.floor(i / 16)),
      scales: new Float32Array(8).fill(1),
    });
    const bytes = awqTensors(encoding, { group: 16 })!.get('qweight')!.bytes();
    expect(bytes.slice(0, 4)).toEqual(Uint8Array.of(0x20, 0x64, 0x31, 0x75));
  });

  it('stores all matrices in one group size, and repeats the scales of wider groups', () => {
    const encodings = [matrix(4, 64, false), matrix(3, 32, true), matrix(4, -1, false)];
    const group = awqGroup(encodings.map((encoding) => integerSizes(encoding)!));
    expect(group).toBe(32);
    for (const encoding of encodings)
      expect(awqEncoding(awqTensors(encoding, { group })!, { group }).dense()).toEqual(encoding.dense());
    expect(awqGroup([integerSizes(encodings[2])!])).toBe(-1);
  });

  it('refuses eight bits and rows that end within a group', () => {
    expect(() => awqTensors(matrix(8, 32, true), { group: 32 })).toThrow('at most 4 bits');
    expect(() => awqTensors(matrix(4, 32, true, [8, 24]), { group: 32 })).toThrow('whole groups');
  });
});

describe("MLX's format", () => {
  it.each(widths.filter(({ group }) => group === 32))(
    'gives $bits bits back, symmetric $symmetric',
    ({ bits, group, symmetric }) => {
      const encoding = matrix(bits, group, symmetric);
      const read = mlxEncoding(mlxTensors(encoding)!, { bits, group });
      expect(read.label).toBe(encoding.label);
      expect(read.dense()).toEqual(encoding.dense());
    },
  );

  it('repeats the scales of whole rows and of wider groups', () => {
    for (const [group, expected] of [
      [-1, 64],
      [256, 64],
    ] as const) {
      const encoding = matrix(4, group, false, [32, 576]);
      const tensors = mlxTensors(encoding)!;
      expect(tensors.get('scales')!.shape).toEqual([32, 576 / expected]);
      expect(mlxEncoding(tensors, { bits: 4, group: expected }).dense()).toEqual(encoding.dense());
    }
  });

  it('reads biases that are no zero points as the values they make', () => {
    const tensors = new Map(mlxTensors(matrix(4, 32, true, [1, 32]))!);
    tensors.set('scales', stored('float32', [1, 1], Float32Array.of(0.25)));
    tensors.set('biases', stored('float32', [1, 1], Float32Array.of(-0.3125)));
    const read = mlxEncoding(tensors, { bits: 4, group: 32 });
    expect(read.label).toBe('4-bit, group 32, offsets float16');
    const levels = [...read.dense()].map((value) => (value + 0.3125) / 0.25);
    expect(levels.every((level) => Number.isInteger(level) && level >= 0 && level < 16)).toBe(true);
  });

  it('refuses groups of 16', () => {
    expect(() => mlxTensors(matrix(4, 16, true))).toThrow('32, 64 or 128');
  });
});

/** [rows, groups] */
function gptqScales(encoding: ReturnType<typeof grouped>): Float32Array {
  const codes = encoding.tensors.get('scales')!;
  const halves = new Uint16Array(new Uint8Array(codes.bytes()).buffer);
  return Float32Array.from(halves, halfValue);
}
