import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../base/errors.ts';
import { random } from '../base/random.ts';
import { roundEven } from '../base/round.ts';
import { Graph } from '../graph/graph.ts';
import { feedsOf, openSession, tensor } from '../graph/session.ts';
import { denseValues } from './dense.ts';
import type { Encoding, Place } from './encoding.ts';
import { encodedBytes } from './encoding.ts';
import { integerParts, integers } from './integer.ts';
import { roundedActivations } from './rounded.ts';

const { fround } = Math;
const [rows, columns, tokens] = [12, 40, 5];
const { normal, integer } = random(4);
const codes = Int8Array.from({ length: rows * columns }, () => integer(255) - 127);
const scales = Float32Array.from({ length: rows }, () => Math.abs(normal()) / 100);
/** Tokens of very different sizes; the third is zero, the last has the largest codes everywhere. */
const x = Float32Array.from({ length: tokens * columns }, (_, at) => {
  const token = Math.floor(at / columns);
  if (token === tokens - 1) return 3;
  return token === 2 ? 0 : normal() * 10 ** (token - 1);
});

/** The definition of W8A8 in whole numbers, one at a time. */
function byDefinition(input?: number): Float32Array {
  return Float32Array.from({ length: tokens * rows }, (_, at) => {
    const [token, row] = [Math.floor(at / rows), at % rows];
    const mine = x.subarray(token * columns, (token + 1) * columns);
    const largest = mine.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const scale = input ?? Math.max(fround(largest * fround(1 / 127)), 2 ** -100);
    let sum = 0;
    for (let i = 0; i < columns; i++) {
      const code = Math.min(Math.max(roundEven(fround(mine[i] / scale)), -128), 127);
      sum += code * codes[row * columns + i];
    }
    return fround(fround(sum * scale) * scales[row]);
  });
}

async function product(
  encoding: Encoding,
  weightsAs: 'initializers' | 'inputs',
  dtype: 'float32' | 'float16' = 'float32',
) {
  const graph = new Graph(weightsAs);
  const input = graph.input('x', 'float32', ['n', columns]);
  const place: Place = (suffix, stored) => graph.weight(`w.${suffix}`, stored);
  graph.output('y', encoding.multiply(input, place));
  graph.output('rows', encoding.gather(graph.input('ids', 'int64', ['a', 'b']), place, dtype));
  const session = await openSession(graph, { threads: 1 });
  const feeds = {
    x: tensor('float32', [tokens, columns], x),
    ids: tensor('int64', [2, 2], BigInt64Array.of(3n, 0n, 11n, 3n)),
    ...(weightsAs === 'inputs' ? feedsOf(graph.weights) : {}),
  };
  const result = await session.run(feeds);
  await session.release();
  return { y: result.y.data as Float32Array, rows: result.rows };
}

describe.each([undefined, 0.02])('8-bit integers, scale of inputs %s', (input) => {
  const encoding = integers({ rows, columns, codes, scales, input });

  it.each(['initializers', 'inputs'] as const)('as %s multiply as whole numbers do', async (weightsAs) => {
    const { y, rows: found } = await product(encoding, weightsAs);
    const expected = byDefinition(input);
    const largest = Math.max(...expected.map(Math.abs));
    y.forEach((value, at) => expect(Math.abs(value - expected[at])).toBeLessThanOrEqual(1e-6 * largest));
    expect(found.dims).toEqual([2, 2, columns]);
    const wide = encoding.dense();
    const row = (index: number) => [...wide.subarray(index * columns, (index + 1) * columns)];
    expect([...(found.data as Float32Array)]).toEqual([3, 0, 11, 3].flatMap(row));
  });

  it('give back what they were made of, and count the bytes that they store', () => {
    expect(integerParts(encoding)).toEqual({
      rows,
      columns,
      codes,
      scales,
      ...(input && { input: fround(input) }),
    });
    expect(encodedBytes(encoding)).toBe(rows * columns + 4 * rows + (input ? 4 : 0));
    expect(encoding.inputBits).toBe(8);
    expect([...encoding.dense()]).toEqual(
      [...codes].map((code, at) => fround(code * scales[Math.floor(at / columns)])),
    );
  });
});

describe('8-bit integers', () => {
  it('add up the largest codes without saturation', async () => {
    const all = integers({ rows, columns, codes: codes.map(() => 127), scales: scales.map(() => 1) });
    const { y } = await product(all, 'initializers');
    for (let row = 0; row < rows; row++)
      expect(y[(tokens - 1) * rows + row]).toBeCloseTo(127 * 3 * columns, 1);
  });

  it('are refused where sizes do not agree, and scales are none', () => {
    expect(() => integers({ rows, columns, codes: codes.subarray(1), scales })).toThrow(LapidaryError);
    expect(() => integers({ rows, columns, codes, scales: scales.map(() => Number.NaN) })).toThrow(/finite/);
    expect(() => integers({ rows, columns, codes, scales, input: 0 })).toThrow(/positive/);
  });

  it('are no parts of another encoding', () => {
    expect(integerParts(denseValues(new Float32Array(6), 2, 3))).toBeUndefined();
  });
});

describe('rounded inputs', () => {
  const values = Float32Array.from({ length: rows * columns }, normal);

  it.each([8, 4, 2])('of %d bits are what the matrix behind is fed', async (bits) => {
    const base = denseValues(values, rows, columns);
    const encoding = roundedActivations(base, { bits });
    const { y } = await product(encoding, 'initializers');
    const top = 2 ** (bits - 1) - 1;
    for (let token = 0; token < tokens; token++) {
      const mine = x.subarray(token * columns, (token + 1) * columns);
      const scale = Math.max(fround(Math.max(...mine.map(Math.abs)) * fround(1 / top)), 2 ** -100);
      for (let row = 0; row < rows; row++) {
        let expected = 0;
        for (let i = 0; i < columns; i++)
          expected += roundEven(fround(mine[i] / scale)) * scale * values[row * columns + i];
        expect(Math.abs(y[token * rows + row] - expected)).toBeLessThanOrEqual(1e-4 * scale * top);
      }
    }
    expect(encoding.inputBits).toBe(bits);
    expect(encoding.dense()).toEqual(base.dense());
    expect(encodedBytes(encoding)).toBe(encodedBytes(base));
  });

  it.each([1, 9, 2.5])('of %s bits are refused', (bits) => {
    expect(() => roundedActivations(denseValues(values, rows, columns), { bits })).toThrow(LapidaryError);
  });
});
