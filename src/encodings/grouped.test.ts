import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { floatToHalf, halfToFloat } from '../base/half.ts';
import { random } from '../base/random.ts';
import { Graph } from '../graph/graph.ts';
import { openSession, tensor, tensorOf } from '../graph/session.ts';
import type { Encoding, Place } from './encoding.ts';
import { encodedBytes } from './encoding.ts';
import type { GroupedCodes, GroupSize } from './grouped.ts';
import { grouped, groupSizes } from './grouped.ts';

type Bits = GroupedCodes['bits'];
const rows = 5;

function sample(columns: number, bits: Bits, group: GroupSize, zeroPoints: boolean, seed = 1): GroupedCodes {
  const { integer, uniform } = random(seed);
  const groups = group === -1 ? 1 : Math.ceil(columns / group);
  return {
    rows,
    columns,
    bits,
    group,
    codes: Uint8Array.from({ length: rows * columns }, () => integer(2 ** bits)),
    scales: Float32Array.from({ length: rows * groups }, () => (1 + integer(64)) / 512),
    ...(zeroPoints
      ? { zeros: Uint8Array.from({ length: rows * groups }, () => Math.floor(uniform() * 2 ** bits)) }
      : {}),
  };
}

/** The definition: w = (code - zero) * scale. */
function byDefinition({ columns, bits, group, codes, scales, zeros }: GroupedCodes): Float32Array {
  const size = group === -1 ? columns : group;
  const groups = Math.ceil(columns / size);
  return Float32Array.from(codes, (code, at) => {
    const g = Math.floor(at / columns) * groups + Math.floor((at % columns) / size);
    return (code - (zeros ? zeros[g] : 2 ** (bits - 1))) * scales[g];
  });
}

async function run(encoding: Encoding, weightsAs: 'initializers' | 'inputs', accuracy?: 0 | 4) {
  const [, columns] = encoding.shape;
  const graph = new Graph(weightsAs);
  const x = graph.input('x', 'float32', ['n', columns]);
  const ids = graph.input('ids', 'int64', ['batch', 'time']);
  const place: Place = (suffix, stored) => graph.weight(`w.${suffix}`, stored);
  graph.output('y', encoding.multiply(x, place, { accuracy }));
  graph.output('rows', encoding.gather(ids, place, 'float32'));
  const session = await openSession(graph, { threads: 1 });
  const identity = new Float32Array(columns * columns);
  for (let i = 0; i < columns; i++) identity[i * columns + i] = 1;
  const order = BigInt64Array.from([4n, 0n, 1n, 3n, 3n, 2n]);
  const feeds: Record<string, ReturnType<typeof tensor>> = {
    x: tensor('float32', [columns, columns], identity),
    ids: tensor('int64', [2, 3], order),
  };
  if (weightsAs === 'inputs') {
    for (const [name, { stored }] of graph.weights) feeds[name] = tensorOf(stored);
  }
  const { y, rows: found } = await session.run(feeds);
  await session.release();
  return { y: y.data as Float32Array, rows: found.data as Float32Array, shape: found.dims, order };
}

const cases = ([2, 3, 4, 8] as const).flatMap((bits) =>
  ([...groupSizes, -1] as const).flatMap((group) =>
    [false, true].flatMap((zeroPoints) =>
      [172, 100, 33].map((columns) => ({ bits, group, zeroPoints, columns })),
    ),
  ),
);

describe('grouped integers', () => {
  it.each(cases)(
    '%o: dense values, product and lookup agree',
    async ({ bits, group, zeroPoints, columns }) => {
      const parts = sample(columns, bits, group, zeroPoints);
      const encoding = grouped(parts);
      const values = encoding.dense();
      expect(values).toEqual(byDefinition(parts));
      const row = (index: number) => values.subarray(index * columns, (index + 1) * columns);
      expect(encoding.rows!([3, 0])).toEqual(Float32Array.of(...row(3), ...row(0)));

      let bytes = 0;
      for (const stored of encoding.tensors.values()) {
        expect(stored.bytes().byteLength).toBe(stored.byteLength);
        bytes += stored.bytes().byteLength;
      }
      expect(encodedBytes(encoding)).toBe(bytes);

      for (const weightsAs of ['initializers', 'inputs'] as const) {
        const { y, rows: found, shape, order } = await run(encoding, weightsAs);
        let worst = 0;
        for (let row = 0; row < rows; row++) {
          for (let column = 0; column < columns; column++) {
            worst = Math.max(worst, Math.abs(y[column * rows + row] - values[row * columns + column]));
          }
        }
        expect(worst, weightsAs).toBeLessThan(1e-6);
        expect(shape).toEqual([2, 3, columns]);
        order.forEach((row, i) => {
          const expected = values.subarray(Number(row) * columns, (Number(row) + 1) * columns);
          expect(found.subarray(i * columns, (i + 1) * columns), weightsAs).toEqual(expected);
        });
      }
    },
  );

  it('keeps a scale and a zero point for a whole row once', () => {
    const { tensors } = grouped(sample(172, 4, -1, true));
    const sizes = [...tensors].map(([name, { shape, dtype }]) => `${name} ${dtype} ${shape.join(' ')}`);
    expect(sizes).toEqual(['codes uint8 5 11 8', 'scales float16 5 1', 'zeros uint8 5 1']);
  });

  it('says that three bits are stored in four', () => {
    const encoding = grouped(sample(64, 3, 32, false));
    expect(encoding.label).toBe('3-bit stored in 4, group 32');
    expect(encoding.bits).toBe(4);
  });

  it('keeps float32 scales where float16 would lose something', async () => {
    const parts = sample(64, 4, 32, false);
    parts.scales[3] = 1 / 3;
    const encoding = grouped(parts);
    expect(encoding.tensors.get('scales')!.dtype).toBe('float32');
    const { y } = await run(encoding, 'initializers');
    const values = encoding.dense();
    expect(values).toEqual(byDefinition(parts));
    for (let i = 0; i < 64; i++) expect(y[i * rows + 1]).toBeCloseTo(values[64 + i], 6);
  });

  it('multiplies in int8 where that is asked for, a little less exactly', async () => {
    const encoding = grouped(sample(128, 4, 32, false));
    const { y } = await run(encoding, 'initializers', 4);
    const values = encoding.dense();
    const off = values.map((value, at) => Math.abs(value - y[(at % 128) * rows + Math.floor(at / 128)]));
    expect(Math.max(...off)).toBeLessThan(0.01);
  });

  it('multiplies and looks up in float16', async () => {
    const encoding = grouped(sample(100, 4, 32, true));
    const graph = new Graph();
    const x = graph.input('x', 'float16', ['n', 100]);
    const place: Place = (suffix, stored) => graph.weight(suffix, stored);
    graph.output('y', encoding.multiply(x, place));
    graph.output('rows', encoding.gather(graph.input('ids', 'int64', ['n']), place, 'float16'));
    const session = await openSession(graph, { threads: 1 });
    const feeds = {
      x: tensor('float16', [1, 100], floatToHalf(new Float32Array(100).fill(1))),
      ids: tensor('int64', [1], BigInt64Array.of(2n)),
    };
    const { y, rows: found } = await session.run(feeds);
    const values = encoding.dense();
    const products = halfToFloat(y.data as Uint16Array);
    for (let row = 0; row < rows; row++) {
      const sum = values.subarray(row * 100, (row + 1) * 100).reduce((a, b) => a + b);
      expect(Math.abs(products[row] - sum)).toBeLessThan(0.02);
    }
    halfToFloat(found.data as Uint16Array).forEach((value, i) => {
      expect(value).toBeCloseTo(values[200 + i], 2);
    });
  });

  it('is stored once where an embedding and the head share it', () => {
    const encoding = grouped(sample(64, 4, 32, false));
    const graph = new Graph();
    const place: Place = (suffix, stored) => graph.weight(`embed.${suffix}`, stored);
    const hidden = encoding.gather(graph.input('ids', 'int64', ['n']), place, 'float32');
    encoding.multiply(hidden, place);
    expect([...graph.weights.keys()]).toEqual(['embed.codes', 'embed.scales']);
  });

  it.each([
    ['too few codes', (parts: GroupedCodes) => ({ ...parts, codes: parts.codes.subarray(1) })],
    ['a code that is too large', (parts: GroupedCodes) => ({ ...parts, codes: parts.codes.map(() => 16) })],
    ['too few scales', (parts: GroupedCodes) => ({ ...parts, scales: parts.scales.subarray(1) })],
    ['a NaN scale', (parts: GroupedCodes) => ({ ...parts, scales: parts.scales.map(() => Number.NaN) })],
    [
      'a zero point that is too large',
      (parts: GroupedCodes) => ({ ...parts, zeros: parts.zeros!.map(() => 16) }),
    ],
  ])('refuses %s', (_, spoil) => {
    expect(() => grouped(spoil(sample(64, 4, 32, true)))).toThrow(LapidaryError);
  });
});
