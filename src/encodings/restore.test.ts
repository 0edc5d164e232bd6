import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { floatToBfloat, floatToHalf } from '../base/half.ts';
import { random } from '../base/random.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import { Graph } from '../graph/graph.ts';
import { encodeModel } from '../graph/onnx.ts';
import { binary } from './binary.ts';
import { blockTypes, quantizeTo } from './blocks/index.ts';
import { groupedInBytes } from './byte-scales.ts';
import { withColumns, withSparse } from './composite.ts';
import { dense } from './dense.ts';
import type { Encoding, EncodingAtRest } from './encoding.ts';
import type { GroupSize } from './grouped.ts';
import { grouped, groupSizes } from './grouped.ts';
import { integers as integers8 } from './integer.ts';
import { numberFormat } from './levels/numbers.ts';
import { levels, numberNames } from './levels.ts';
import { restore } from './restore.ts';
import { roundedActivations } from './rounded.ts';

const [rows, columns] = [6, 512];
const source = random(9);
const values = Float32Array.from({ length: rows * columns }, () => source.normal());

function integers(bits: 2 | 3 | 4 | 8, group: GroupSize, zeroPoints: boolean, width = columns): Encoding {
  const below = (count: number, limit: number) =>
    Uint8Array.from({ length: count }, () => source.integer(limit));
  const count = rows * (group === -1 ? 1 : Math.ceil(width / group));
  return grouped({
    rows,
    columns: width,
    bits,
    group,
    codes: below(rows * width, 2 ** bits),
    scales: Float32Array.from({ length: count }, () => source.normal()),
    ...(zeroPoints && { zeros: below(count, 2 ** bits) }),
  });
}

const kinds: readonly [string, () => Encoding | Promise<Encoding>][] = [
  ['float32', () => dense(stored('float32', [rows, columns], values))],
  ['float16', () => dense(stored('float16', [rows, columns], floatToHalf(values)))],
  ['bfloat16', () => dense(stored('bfloat16', [rows, columns], floatToBfloat(values)))],
  ...([2, 3, 4, 8] as const).flatMap((bits) =>
    ([-1, ...groupSizes] as const).flatMap((group) =>
      [false, true].map((zeroPoints): [string, () => Encoding] => [
        `${bits} bits, group ${group}${zeroPoints ? ', zero points' : ''}`,
        () => integers(bits, group, zeroPoints),
      ]),
    ),
  ),
  ['rows that are no whole groups', () => integers(4, 32, true, 70)],
  ...[...blockTypes.byName.keys()].map((name): [string, () => Promise<Encoding>] => [
    name,
    () => quantizeTo({ name }, { rows, columns, values }),
  ]),
];

const bytes8 = (input?: number) =>
  integers8({
    rows,
    columns,
    codes: Int8Array.from({ length: rows * columns }, () => source.integer(256) - 128),
    scales: Float32Array.from({ length: rows }, () => source.normal()),
    input,
  });
/** Every format in its own group. */
const numbers = numberNames.map((name): [string, () => Encoding] => [
  name,
  () => {
    const { values, group, scale } = numberFormat(name);
    const known = [...values.keys()].filter((code) => !Number.isNaN(values[code]));
    const count = rows * (typeof group === 'number' && group > 0 ? columns / group : 1);
    const below = (limit: number) => source.integer(limit);
    return levels({
      numbers: name,
      rows,
      columns,
      group,
      codes: Uint8Array.from({ length: rows * columns }, () => known[below(known.length)]),
      ...(scale === 'float'
        ? { scales: Float32Array.from({ length: count }, () => source.normal()) }
        : { scaleCodes: Uint8Array.from({ length: count }, () => below(127)) }),
      ...(scale === 'e4m3' && { global: 3 }),
    });
  },
]);

const signs = ([1, 2] as const).map((planes): [string, () => Encoding] => [
  `${planes} planes of signs`,
  () =>
    binary({
      rows,
      columns,
      group: 64,
      planes: Array.from({ length: planes }, () => ({
        signs: Uint8Array.from({ length: rows * columns }, () => source.integer(2)),
        scales: Float32Array.from({ length: (rows * columns) / 64 }, () => source.normal()),
      })),
    }),
]);

const apart: readonly [string, () => Encoding][] = [
  ['8-bit integers, inputs by token', () => bytes8()],
  ['8-bit integers, inputs by layer', () => bytes8(0.5)],
  ['rounded inputs', () => roundedActivations(integers(4, 32, true), { bits: 8 })],
  [
    'scales in bytes',
    () =>
      groupedInBytes({
        rows,
        columns,
        bits: 4,
        group: 32,
        packed: Uint8Array.from({ length: (rows * columns) / 2 }, () => source.integer(256)),
        scales: Float32Array.from({ length: (rows * columns) / 32 }, () => (8 + source.integer(8)) / 256),
      }),
  ],
  [
    'whole columns apart',
    () =>
      withColumns(integers(3, 64, false), {
        columns: Int32Array.of(3, 9),
        values: values.subarray(0, 2 * rows),
      }),
  ],
  [
    'single weights apart',
    () =>
      withSparse(integers(2, 16, true), {
        starts: Int32Array.of(0, 0, 1, 3, 3, 3, 4),
        columns: Int32Array.of(7, 0, 511, 4),
        values: values.subarray(0, 4),
      }),
  ],
  [
    'columns apart of rounded inputs',
    () => withColumns(bytes8(), { columns: Int32Array.of(511), values: values.subarray(0, rows) }),
  ],
];

/** As a file gives it back: other buffers, and a description that was JSON. */
function copied({ description, shape, tensors }: EncodingAtRest): EncodingAtRest {
  const copy = ([suffix, { dtype, shape, bytes }]: [string, Stored]) =>
    [suffix, stored(dtype, shape, bytes().slice())] as const;
  const plain = JSON.parse(JSON.stringify({ description, shape })) as Pick<
    EncodingAtRest,
    'description' | 'shape'
  >;
  return { ...plain, tensors: new Map([...tensors].map(copy)) };
}

/** The ONNX bytes of a product and a look-up. */
function graphOf(encoding: Encoding): Uint8Array {
  const graph = new Graph();
  const place = (suffix: string, tensor: Stored) => graph.weight(`w.${suffix}`, tensor);
  graph.output('y', encoding.multiply(graph.input('x', 'float32', ['n', encoding.shape[1]]), place));
  graph.output('rows', encoding.gather(graph.input('ids', 'int64', ['k']), place, 'float32'));
  return encodeModel(graph);
}

describe.each([...kinds, ...numbers, ...signs, ...apart])('%s', (_, make) => {
  it('is the same encoding when it is restored: bytes, values, label and graph', async () => {
    const before = await make();
    const after = restore(copied(before));
    expect([after.label, after.bits, after.shape, after.description]).toEqual([
      before.label,
      before.bits,
      before.shape,
      before.description,
    ]);
    const plain = ({ tensors }: Encoding) =>
      [...tensors].map(([suffix, { dtype, shape, bytes }]) => [suffix, dtype, shape, Buffer.from(bytes())]);
    expect(plain(after)).toEqual(plain(before));
    expect(Buffer.from(after.dense().buffer).equals(Buffer.from(before.dense().buffer))).toBe(true);
    expect(Buffer.from(graphOf(after)).equals(Buffer.from(graphOf(before)))).toBe(true);
  });

  it('is refused when a tensor is missing, too many, of another type or of another size', async () => {
    const whole = await make();
    const [suffix, tensor] = [...whole.tensors][0];
    const changed = (...[name, other]: [string, Stored?]) => {
      const tensors = new Map(whole.tensors);
      if (other) tensors.set(name, other);
      else tensors.delete(name);
      return () => restore({ ...whole, tensors });
    };
    const [first, ...rest] = tensor.shape;
    const shorter = stored(
      tensor.dtype,
      [first - 1, ...rest],
      tensor.bytes().slice(tensor.byteLength / first),
    );
    expect(changed(suffix)).toThrow(LapidaryError);
    expect(changed('more', tensor)).toThrow(LapidaryError);
    expect(changed(suffix, stored('int16', [1, 1], new Int16Array(1)))).toThrow(LapidaryError);
    expect(changed(suffix, shorter)).toThrow(LapidaryError);
  });
});

describe('what is no encoding', () => {
  it.each([
    { kind: 'sparse' },
    { kind: '__proto__' },
    {},
    { kind: 'blocks', type: 'Q9_K' },
    { kind: 'grouped', bits: 5, group: 32 },
    { kind: 'grouped', bits: 4, group: 33 },
    { kind: 'grouped', bits: '4', group: 32 },
    { kind: 'grouped' },
  ] as EncodingAtRest['description'][])('is refused: %j', (description) => {
    const { shape, tensors } = integers(4, 32, false);
    expect(() => restore({ description, shape, tensors })).toThrow(LapidaryError);
  });

  it('a scale that is not finite is refused', () => {
    const whole = integers(4, 32, false);
    const scales = stored('float32', [rows, 16], new Float32Array(rows * 16).fill(Number.NaN));
    expect(() => restore({ ...whole, tensors: new Map(whole.tensors).set('scales', scales) })).toThrow(
      /finite/,
    );
  });
});
