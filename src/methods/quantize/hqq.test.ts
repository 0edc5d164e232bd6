import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { toFloat32 } from '../../base/half.ts';
import type { Bits } from '../../encodings/grid.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import { restore } from '../../encodings/restore.ts';
import { shifted } from '../../encodings/shifted.ts';
import { Graph } from '../../graph/graph.ts';
import { openSession, tensor } from '../../graph/session.ts';
import { openSafetensors } from '../../io/safetensors/read.ts';
import type { HqqOptions } from './hqq.ts';
import { hqq, solve } from './hqq.ts';
import { roundToNearest } from '../../rounding/nearest.ts';

const folder = new URL('../../../test/goldens/', import.meta.url);
const tensors = (name: string) => openSafetensors(new URL(`${name}.safetensors`, folder).pathname).tensors;
const { relative_output_error: errors } = JSON.parse(
  readFileSync(new URL('goldens.json', folder), 'utf8'),
) as { relative_output_error: Record<string, number> };
const [rows, columns, tokens] = [48, 128, 512];
const weight = toFloat32(tensors('inputs').get('weight')!);
const x = toFloat32(tensors('inputs').get('inputs')!);
const matrix = () => ({ rows, columns, values: weight.slice() });
const authors = { group: 32, scales: 'float32', fitScale: false } as const;

async function solved(some: Partial<HqqOptions>, threads?: number) {
  const { codes, offsets } = await solve(matrix(), hqq.options.parse(some), threads);
  return shifted(codes, offsets);
}

/** ||X (W' - W)^T|| / ||X W^T|| */
function outputError(values: Float32Array): number {
  let [difference, whole] = [0, 0];
  for (let t = 0; t < tokens; t++) {
    for (let row = 0; row < rows; row++) {
      let [d, y] = [0, 0];
      for (let i = 0; i < columns; i++) {
        d += x[t * columns + i] * (values[row * columns + i] - weight[row * columns + i]);
        y += x[t * columns + i] * weight[row * columns + i];
      }
      difference += d * d;
      whole += y * y;
    }
  }
  return Math.sqrt(difference / whole);
}

describe('hqq meets the authors', () => {
  it.each([4, 3, 2] as const)('%i bits', async (bits: Bits) => {
    const values = (await solved({ ...authors, bits })).dense();
    const expected = toFloat32(tensors('hqq').get(`b${bits}.g32`)!);
    // Near zero a weight is the difference of two larger numbers.
    const equal = values.filter(
      (value, i) => Math.abs(value - expected[i]) <= 1e-5 * Math.abs(expected[i]) + 1e-6,
    );
    expect(equal.length / values.length).toBeGreaterThanOrEqual(0.99);
    expect(outputError(values)).toBeLessThanOrEqual(1.0001 * errors[`hqq/b${bits}.g32`]);
  });
});

describe('hqq', () => {
  it.each([4, 3, 2] as const)(
    'at %i bits loses less with fitted scales, and less than plain rounding',
    async (bits: Bits) => {
      const fitted = outputError((await solved({ bits, group: 32, fitScale: true })).dense());
      expect(fitted).toBeLessThan(0.99 * errors[`hqq/b${bits}.g32`]);
      const choice = { bits, group: 32, symmetric: false, range: 'mse', scales: 'float16' } as const;
      expect(fitted).toBeLessThan(outputError(groupedPacked(await roundToNearest(matrix(), choice)).dense()));
    },
  );

  it('gives the same with any number of threads', async () => {
    const [one, three] = [await solved({}, 1), await solved({}, 3)];
    for (const [name, stored] of one.tensors)
      expect(three.tensors.get(name)!.bytes()).toEqual(stored.bytes());
  });

  it('takes groups of one value, and of nothing but zeros, as they are', async () => {
    const values = new Float32Array(16 * 64).map((_, i) => [0.125, 0, -0.3][Math.floor(i / 32) % 3]);
    const { codes, offsets } = await solve({ rows: 16, columns: 64, values }, hqq.options.parse({}));
    const found = shifted(codes, offsets).dense();
    found.forEach((value, i) => expect(Math.abs(value - values[i])).toBeLessThanOrEqual(2 ** -13));
  });
});

describe('a matrix with offsets', () => {
  it('takes two float16 a group besides its codes, and is restored bit for bit', async () => {
    const encoding = await solved({ bits: 4, group: 32 });
    const groups = (rows * columns) / 32;
    const bytes = [...encoding.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(bytes).toBe((rows * columns) / 2 + 2 * groups + 2 * groups);
    expect(restore(encoding).dense()).toEqual(encoding.dense());
    expect(restore(encoding).description).toEqual(encoding.description);
  });

  it.each([32, 64, 256, -1] as const)(
    'multiplies and is looked up as its values say, group %i',
    async (group) => {
      const narrow = 120;
      const values = weight.slice(0, 40 * narrow);
      const { codes, offsets } = await solve(
        { rows: 40, columns: narrow, values },
        hqq.options.parse({ group }),
      );
      const encoding = shifted(codes, offsets);
      const graph = new Graph();
      const place = (suffix: string, stored: Parameters<Graph['weight']>[1]) => graph.weight(suffix, stored);
      graph.output('y', encoding.multiply(graph.input('x', 'float32', ['batch', 'time', narrow]), place));
      graph.output('rows', encoding.gather(graph.input('ids', 'int64', ['ids']), place, 'float32'));
      const session = await openSession(graph, { threads: 1 });
      const dense = encoding.dense();
      const input = x.slice(0, 6 * narrow);
      const { y, rows: found } = await session.run({
        x: tensor('float32', [2, 3, narrow], input),
        ids: tensor('int64', [2], BigInt64Array.of(7n, 39n)),
      });
      await session.release();
      for (let t = 0; t < 6; t++) {
        for (let row = 0; row < 40; row++) {
          let sum = 0;
          for (let i = 0; i < narrow; i++) sum += input[t * narrow + i] * dense[row * narrow + i];
          expect(Math.abs((y.data as Float32Array)[t * 40 + row] - sum)).toBeLessThan(1e-4);
        }
      }
      [7, 39].forEach((id, k) => {
        for (let i = 0; i < narrow; i++)
          expect((found.data as Float32Array)[k * narrow + i]).toBeCloseTo(dense[id * narrow + i], 6);
      });
    },
  );

  it('refuses offsets that do not fit', async () => {
    const { codes, offsets } = await solve(matrix(), hqq.options.parse({}));
    expect(() => shifted(codes, offsets.slice(1))).toThrow(/offsets/);
    expect(() =>
      shifted(
        codes,
        offsets.map(() => Number.NaN),
      ),
    ).toThrow(/finite/);
  });
});
