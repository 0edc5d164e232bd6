/** compressed-tensors: what its own library writes is read, and what we write of that is the same bytes. */

import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { toFloat32 } from '../../base/half.ts';
import type { Stored } from '../../base/tensor.ts';
import { stored } from '../../base/tensor.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { grouped } from '../../encodings/grouped.ts';
import { levels } from '../../encodings/levels.ts';
import { roundedActivations } from '../../encodings/rounded.ts';
import { openSafetensors } from '../../io/safetensors/read.ts';
import { readQuantized } from '../../models/quantized/index.ts';
import { schemeOf } from './compressed-tensors.ts';

const file = openSafetensors('test/goldens/compressed-tensors.safetensors');
const name = 'model.layers.0.mlp.up_proj';

type Tensors = ReadonlyMap<string, Stored>;
type Scheme = Record<string, unknown>;

/** As the library stores the matrix, and what it makes of it. */
function golden(scheme: string) {
  const all = [...file.tensors].flatMap(([key, tensor]): [string, Stored][] =>
    key.startsWith(`${scheme}/`) ? [[key.slice(scheme.length + 1), tensor]] : [],
  );
  const { dense, ...parts } = Object.fromEntries(all);
  return {
    tensors: new Map(Object.entries(parts)),
    dense: toFloat32(dense!),
    group: JSON.parse(file.metadata.get(scheme)!) as Scheme,
  };
}

function settings(group: Scheme, more: Scheme = {}): Scheme {
  return {
    quant_method: 'compressed-tensors',
    quantization_status: 'compressed',
    format: 'pack-quantized',
    config_groups: { group_0: group },
    ignore: ['lm_head'],
    ...more,
  };
}

function read(tensors: Tensors, config: Scheme): Encoding | undefined {
  const named = new Map([...tensors].map(([suffix, tensor]) => [`${name}.${suffix}`, tensor]));
  const json = { quantization_config: config };
  return readQuantized({ json, tensors: named, source: 'here' })!.encodings.get(name);
}

const labels = {
  '4 bits, groups of 32': '4-bit, group 32',
  '4 bits, zero points': '4-bit, group 64, zero points',
  '3 bits': '3-bit stored in 4, group 32',
  '2 bits, rows': '2-bit, whole row',
  '8 bits, rows, zero points': '8-bit, whole row, zero points',
  W8A8: '8-bit, whole row, inputs 8-bit by token',
  W4A8: '4-bit, group 128, inputs 8-bit by token',
  FP8: 'fp8-e4m3, whole matrix',
  FP8_DYNAMIC: 'fp8-e4m3, whole rows',
  'FP8, blocks': 'fp8-e4m3, group 64',
  NVFP4A16: 'nvfp4, group 16',
  MXFP4A16: 'mxfp4, group 32',
  MXFP8A16: 'mxfp8, group 32',
};

describe('what the library writes', () => {
  it.each(Object.entries(labels))('opens: %s', (scheme, label) => {
    const { tensors, dense, group } = golden(scheme);
    const encoding = read(tensors, settings(group))!;
    expect(encoding.label).toBe(label);
    // Its decompressor rounds NVFP4's products to bfloat16.
    const tolerance = scheme === 'NVFP4A16' ? 2 ** -8 : 0;
    const wrong = encoding
      .dense()
      .filter((value, i) => !(Math.abs(value - dense[i]) <= tolerance * Math.abs(value)));
    expect(wrong).toHaveLength(0);
  });

  // Scales of blocks, and the static scale of FP8's inputs, are not kept.
  const same = Object.keys(labels).filter((scheme) => !['FP8, blocks', 'FP8'].includes(scheme));
  it.each(same)('is written again as the same bytes: %s', (scheme) => {
    const { tensors, group } = golden(scheme);
    const written = schemeOf(read(tensors, settings(group))!, 'float32')!;
    const bytes = (from: Tensors) =>
      [...from]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([suffix, { dtype, shape, bytes }]) => [
          suffix,
          dtype,
          shape,
          Buffer.from(bytes()).toString('hex'),
        ]);
    expect(bytes(written.tensors)).toEqual(bytes(tensors));
    const { scale_dtype: _, ...weights } = group.weights as Scheme;
    expect(written.weights).toMatchObject({ ...weights, group_size: weights.group_size ?? null });
  });
});

describe('which scheme a matrix has', () => {
  const { tensors, group } = golden('4 bits, groups of 32');
  const other = { ...group, weights: { ...(group.weights as Scheme), group_size: 64 } };
  const config = (first: string, second: string, ignore: string[] = []) =>
    settings(group, {
      config_groups: { a: { ...other, targets: [first] }, b: { ...group, targets: [second] } },
      ignore,
    });

  it.each([
    ['Linear', name],
    ['Linear', 're:.*up_proj'],
    ['re:.*up_proj', name],
  ])('is the closest target: of %s and %s the second', (far, near) => {
    expect(read(tensors, config(far, near))?.label).toBe('4-bit, group 32');
  });

  it('is none where no target means it, or it is ignored', () => {
    expect(() => read(tensors, config('lm_head', 're:up_proj'))).toThrow(
      /up_proj(.|\n)*group with this matrix/,
    );
    expect(() => read(tensors, config('Linear', 'Linear', ['re:.*mlp']))).toThrow(LapidaryError);
  });

  it('does not matter for floats', () => {
    const weight = stored('float16', [2, 2], new Uint16Array(4));
    expect(read(new Map([['weight', weight]]), settings(group))).toBeUndefined();
  });
});

describe('what is damaged or not known', () => {
  const { tensors, group } = golden('4 bits, zero points');
  const weights = (more: Scheme) =>
    settings({ ...group, weights: { ...(group.weights as Scheme), ...more } });
  const without = (suffix: string) => new Map([...tensors].filter(([key]) => key !== suffix));
  const shape = (rows: number, columns: number) =>
    new Map(tensors).set(
      'weight_shape',
      stored('int64', [2], BigInt64Array.of(BigInt(rows), BigInt(columns))),
    );

  it.each<[string, Tensors, Scheme, RegExp]>([
    ['no codes', without('weight_packed'), settings(group), /up_proj, weight/],
    ['no shape', without('weight_shape'), settings(group), /weight_shape/],
    ['no zero points', without('weight_zero_point'), settings(group), /weight_zero_point/],
    ['no scales', without('weight_scale'), settings(group), /weight_scale/],
    ['a shape of more columns', shape(12, 256), settings(group), /weight_packed/],
    ['a shape of more rows', shape(13, 128), settings(group), /weight_packed/],
    ['a shape below 0', shape(-12, 128), settings(group), /weight_shape/],
    ['a shape beyond all memory', shape(2 ** 40, 2 ** 40), settings(group), /weight_packed/],
    ['another group size', tensors, weights({ group_size: 32 }), /weight_scale/],
    ['another width', tensors, weights({ num_bits: 8 }), /weight_packed/],
    ['five bits', tensors, weights({ num_bits: 5 }), /num_bits/],
    ['a strategy that is none', tensors, weights({ strategy: 'rows' }), /strategy/],
    ['a group size of nothing', tensors, weights({ group_size: 0 }), /group_size/],
    ['text for a number', tensors, weights({ num_bits: 'four' }), /num_bits/],
    ['groups that are a list', tensors, settings(group, { config_groups: [] }), /config_groups/],
    ['targets that are none', tensors, settings({ ...group, targets: 'Linear' }), /targets/],
    ['an expression that is none', tensors, settings({ ...group, targets: ['re:('] }), /targets/],
    [
      'weights that are not compressed',
      tensors,
      settings(group, { quantization_status: 'frozen' }),
      /status/,
    ],
    [
      'sparse weights',
      tensors,
      settings(group, { sparsity_config: { format: 'sparse-24-bitmask' } }),
      /sparsity/,
    ],
    ['rotations while it runs', tensors, settings(group, { transform_config: { a: 1 } }), /transform_config/],
  ])('is refused by name: %s', (_, parts, config, message) => {
    expect(() => read(parts, config)).toThrow(LapidaryError);
    expect(() => read(parts, config)).toThrow(message);
  });

  it('is told which formats there are', () => {
    expect(() => read(tensors, { quant_method: 'bitsandbytes' })).toThrow(
      /compressed-tensors(.|\n)*bitsandbytes/,
    );
  });
});

describe('what other releases wrote', () => {
  it('opens: three-bit codes of which ten stand in a word', () => {
    const codes = Uint8Array.from({ length: 2 * 32 }, (_, i) => (i * 5) % 8);
    const words = new Uint32Array(2 * 4);
    codes.forEach((code, i) => {
      const [row, column] = [Math.floor(i / 32), i % 32];
      words[row * 4 + Math.floor(column / 10)] |= code << (3 * (column % 10));
    });
    const tensors = new Map<string, Stored>([
      ['weight_packed', stored('int32', [2, 4], words)],
      ['weight_scale', stored('float32', [2, 1], Float32Array.of(0.5, 0.25))],
      ['weight_shape', stored('int64', [2], BigInt64Array.of(2n, 32n))],
    ]);
    const weights = { num_bits: 3, type: 'int', symmetric: true, strategy: 'group', group_size: 32 };
    const values = read(tensors, settings({ targets: ['Linear'], weights }))!.dense();
    expect(values).toEqual(Float32Array.from(codes, (code, i) => (code - 4) * (i < 32 ? 0.5 : 0.25)));
  });

  it('opens: groups in the order of calibration (actorder), as the values they stand for', () => {
    const { tensors, group } = golden('4 bits, groups of 32');
    const scales = toFloat32(tensors.get('weight_scale')!);
    const plain = read(tensors, settings(group))!.dense();
    const index = Int32Array.from({ length: 128 }, (_, column) => column % 4);
    const mixed = read(new Map(tensors).set('weight_g_idx', stored('int32', [128], index)), settings(group))!;
    expect(mixed.label).toBe('float16');
    const [at, column] = [5 * 128 + 77, 77];
    const expected = (plain[at] / scales[5 * 4 + Math.floor(column / 32)]) * scales[5 * 4 + index[column]];
    expect(mixed.dense()[at]).toBeCloseTo(expected, 3);
  });
});

describe('what the format does not hold', () => {
  const integers = (columns: number, zeros?: Uint8Array) =>
    grouped({
      rows: 2,
      columns,
      bits: 4,
      group: 32,
      codes: new Uint8Array(2 * columns),
      scales: new Float32Array(2 * Math.ceil(columns / 32)).fill(1),
      zeros,
    });

  it.each<[string, Encoding, RegExp]>([
    ['rows that end within a group', integers(40), /whole groups of 32(.|\n)*group: -1/],
    [
      'zero points with rounded inputs',
      roundedActivations(integers(32, new Uint8Array(2)), { bits: 8 }),
      /symmetric: true/,
    ],
    [
      'NF4',
      levels({
        numbers: 'nf4',
        rows: 2,
        columns: 64,
        group: 64,
        codes: new Uint8Array(128),
        scales: Float32Array.of(1, 1),
      }),
      /no place for nf4/,
    ],
  ])('is refused, and told what would do: %s', (_, encoding, message) => {
    expect(() => schemeOf(encoding, 'float16')).toThrow(message);
  });

  it('three bits with zero points stand in four', () => {
    const encoding = grouped({
      rows: 1,
      columns: 32,
      bits: 3,
      group: 32,
      codes: Uint8Array.from({ length: 32 }, (_, i) => i % 8),
      scales: Float32Array.of(0.5),
      zeros: Uint8Array.of(3),
    });
    const { weights, tensors, format } = schemeOf(encoding, 'float32')!;
    expect(weights).toMatchObject({ num_bits: 4, symmetric: false });
    const again = read(tensors, settings({ targets: ['Linear'], weights }, { format }));
    expect(again!.dense()).toEqual(encoding.dense());
  });
});
