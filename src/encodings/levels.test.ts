import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { random } from '../base/random.ts';
import { Graph } from '../graph/graph.ts';
import { feedsOf, openSession, tensor } from '../graph/session.ts';
import type { Encoding, Place } from './encoding.ts';
import { encodedBytes } from './encoding.ts';
import { numberFormat } from './levels/numbers.ts';
import type { LevelCodes, LevelGroup, NumberName } from './levels.ts';
import { levels, levelsPacked, numberNames, unlevelled } from './levels.ts';

const rows = 5;

function sample(numbers: NumberName, columns: number, wanted: LevelGroup): LevelCodes {
  const { integer, uniform } = random(3);
  const { values, ownGroup, group: own, scale, bits } = numberFormat(numbers);
  const group = ownGroup ? own : wanted;
  const count = group === 'tensor' ? 1 : rows * (group === -1 ? 1 : Math.ceil(columns / group));
  const known = Array.from(values.keys()).filter((code) => !Number.isNaN(values[code]));
  return {
    numbers,
    rows,
    columns,
    group,
    codes: Uint8Array.from({ length: rows * columns }, () => known[integer(known.length)]),
    ...(scale === 'float'
      ? { scales: Float32Array.from({ length: count }, () => (0.1 + uniform()) / 2 ** bits) }
      : { scaleCodes: Uint8Array.from({ length: count }, () => 110 + integer(16)) }),
    ...(scale === 'e4m3' && { global: 1234.5 }),
  };
}

/** w = value(code) * scale, in float32. */
function byDefinition(numbers: NumberName, columns: number, wanted: LevelGroup): Float32Array {
  const { codes, group } = sample(numbers, columns, wanted);
  const { scales } = unlevelled(levels(sample(numbers, columns, wanted)))!;
  const length = group === 'tensor' ? columns : group === -1 ? columns : group;
  const perRow = group === 'tensor' ? 0 : Math.ceil(columns / length);
  return Float32Array.from(codes, (code, at) => {
    const scale = scales[Math.floor(at / columns) * perRow + Math.floor((at % columns) / length)];
    return numberFormat(numbers).values[code] * scale;
  });
}

async function run(encoding: Encoding, weightsAs: 'initializers' | 'inputs') {
  const [, columns] = encoding.shape;
  const graph = new Graph(weightsAs);
  const x = graph.input('x', 'float32', ['n', columns]);
  const ids = graph.input('ids', 'int64', ['batch', 'time']);
  const place: Place = (suffix, stored) => graph.weight(`w.${suffix}`, stored);
  graph.output('y', encoding.multiply(x, place));
  graph.output('rows', encoding.gather(ids, place, 'float32'));
  const session = await openSession(graph, { threads: 1 });
  const identity = new Float32Array(columns * columns);
  for (let i = 0; i < columns; i++) identity[i * columns + i] = 1;
  const { y, rows: found } = await session.run({
    x: tensor('float32', [columns, columns], identity),
    ids: tensor('int64', [2, 2], BigInt64Array.of(4n, 0n, 1n, 4n)),
    ...(weightsAs === 'inputs' ? feedsOf(graph.weights) : {}),
  });
  await session.release();
  return { y: y.data as Float32Array, found: found.data as Float32Array };
}

describe.each(numberNames)('%s', (numbers) => {
  const cases = ([16, 64, -1, 'tensor'] as const).flatMap((group) =>
    [64, 70].map((columns) => [group, columns] as const),
  );

  it.each(cases)('group %s, rows of %i: values, product and rows by definition', async (group, columns) => {
    const encoding = levels(sample(numbers, columns, group));
    const expected = byDefinition(numbers, columns, group);
    expect(encoding.dense()).toEqual(expected);
    for (const weightsAs of ['initializers', 'inputs'] as const) {
      const { y, found } = await run(encoding, weightsAs);
      const product = Float32Array.from(
        { length: columns * rows },
        (_, at) => expected[(at % rows) * columns + Math.floor(at / rows)] + 0,
      );
      expect(y.map((value) => value + 0)).toEqual(product);
      const looked = [4, 0, 1, 4].flatMap((row) => [
        ...expected.subarray(row * columns, (row + 1) * columns),
      ]);
      expect([...found].map((value) => value + 0)).toEqual(looked.map((value) => value + 0));
    }
  });

  it.each(numberFormat(numbers).halves ? cases : [])(
    'group %s, rows of %i: in files, a product of whole numbers',
    async (group, columns) => {
      const encoding = levels(sample(numbers, columns, group));
      const values = byDefinition(numbers, columns, group);
      const graph = new Graph();
      const x = graph.input('x', 'float32', [1, columns]);
      const place: Place = (suffix, stored) => graph.weight(`w.${suffix}`, stored);
      graph.output('y', encoding.multiply(x, place, { accuracy: 0 }));
      expect(graph.nodes.map(({ op }) => op)).toContain('MatMulNBits');
      const session = await openSession(graph, { threads: 1 });
      const { normal } = random(8);
      const input = Float32Array.from({ length: columns }, () => normal());
      const found = (await session.run({ x: tensor('float32', [1, columns], input) })).y.data as Float32Array;
      await session.release();
      const expected = found.map((_, row) =>
        input.reduce((sum, value, at) => sum + value * values[row * columns + at], 0),
      );
      const most = Math.max(...expected.map(Math.abs));
      found.forEach((value, row) => expect(value / most).toBeCloseTo(expected[row] / most, 3));
    },
  );

  it('gives back what it was given', () => {
    const given = sample(numbers, 70, 32);
    const encoding = levels(given);
    const found = unlevelled(encoding)!;
    for (const [name, value] of Object.entries(given)) {
      if (name === 'global') expect(found.global).toBe(Math.fround(given.global!));
      else expect(found[name as keyof typeof found]).toEqual(value);
    }
    const packed = encoding.tensors.get('levels')!.bytes();
    const again = levelsPacked({ ...found, scaleCodes: undefined, packed });
    const bytes = ({ tensors }: Encoding) => [...tensors].map(([suffix, tensor]) => [suffix, tensor.bytes()]);
    expect(bytes(again)).toEqual(bytes(encoding));
  });

  it('stores its codes and little more', () => {
    const { bits } = numberFormat(numbers);
    const encoding = levels(sample(numbers, 256, 64));
    expect(encoding.bits).toBe(bits);
    const rest = 8 * encodedBytes(encoding) - bits * rows * 256;
    expect(rest).toBeGreaterThan(0);
    expect(rest).toBeLessThanOrEqual(0.55 * rows * 256);
  });

  it.each([
    ['too few codes', (one: LevelCodes) => ({ ...one, codes: one.codes.subarray(1) }), /320 codes/],
    ['too few scales', (one: LevelCodes) => ({ ...one, scales: undefined, scaleCodes: undefined }), /scales/],
    ['a scale that is none', spoilt, /finite scales/],
    ['a group that is none', (one: LevelCodes) => ({ ...one, group: 24 }), /groups of/],
    ['numbers that are none', (one: LevelCodes) => ({ ...one, numbers: 'fp3' as 'fp4' }), /numbers of nf4/],
    ['no columns', (one: LevelCodes) => ({ ...one, columns: Number.NaN }), /rows and columns/],
  ])('refuses %s', (_, change, message) => {
    const spoiled = change(sample(numbers, 64, 32)) as LevelCodes;
    expect(() => levels(spoiled)).toThrow(LapidaryError);
    expect(() => levels(spoiled)).toThrow(message);
  });
});

function spoilt(one: LevelCodes): LevelCodes {
  if (one.scales) return { ...one, scales: one.scales.map(() => Number.NaN) };
  return { ...one, scaleCodes: one.scaleCodes!.map(() => (one.numbers === 'nvfp4' ? 127 : 255)) };
}

describe('levels', () => {
  it.each([
    ['fp8-e4m3', 0x7f],
    ['fp8-e5m2', 0x7c],
    ['ternary', 0],
    ['ternary', 4],
    ['nf4', 16],
  ] as const)('refuse a code of %s that stands for no number: %i', (numbers, code) => {
    const one = sample(numbers, 64, -1);
    expect(() => levels({ ...one, codes: one.codes.fill(code, 7, 8) })).toThrow(/stand for numbers/);
  });

  it('refuse scales that the format does not hold', () => {
    const { scaleCodes, ...mx } = sample('mxfp4', 64, 32);
    expect(() => levels({ ...mx, scales: new Float32Array(10).fill(3) })).toThrow(/e8m0 holds/);
    expect(() => levels({ ...mx, scaleCodes, global: 3 })).toThrow(/no factor/);
    const nv = sample('nvfp4', 64, 16);
    expect(() => levels({ ...nv, global: undefined })).toThrow(/a factor/);
    expect(() => levels({ ...nv, global: 0 })).toThrow(/positive factor/);
  });

  it('are what unlevelled knows, and nothing else', () => {
    expect(unlevelled({ description: { kind: 'dense' }, shape: [1, 1], tensors: new Map() })).toBeUndefined();
  });
});
