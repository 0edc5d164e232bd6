import { describe, expect, it } from 'vitest';
import { LapidaryError } from '../../base/errors.ts';
import { bfloatToFloat, floatToBfloat, floatToHalf, halfToFloat } from '../../base/half.ts';
import { random } from '../../base/random.ts';
import { stored } from '../../base/tensor.ts';
import { integerGrid } from '../../encodings/grid.ts';
import { groupedPacked } from '../../encodings/grouped.ts';
import type { Matrix } from '../../contract/statistic.ts';
import { rtn } from './rtn.ts';
import { roundToNearest } from '../../rounding/nearest.ts';

const defaults = rtn.options.parse({});
const { normal } = random(7);
const matrix = (rows: number, columns: number) => ({
  rows,
  columns,
  values: Float32Array.from({ length: rows * columns }, () => 0.1 * normal()),
});

describe('round-to-nearest', () => {
  it.each(
    ([2, 3, 4, 8] as const).flatMap((bits) =>
      ([16, 32, 128, -1] as const).flatMap((group) =>
        [true, false].map((symmetric) => ({ bits, group, symmetric })),
      ),
    ),
  )('%o: every weight is the nearest value of its group’s grid', async (some) => {
    const weight = matrix(18, 100);
    const choice = { ...defaults, ...some };
    const grid = integerGrid(choice);
    const found = groupedPacked(await roundToNearest(weight, choice)).dense();
    const size = some.group === -1 ? 100 : some.group;
    for (let row = 0; row < 18; row++) {
      for (let start = 0; start < 100; start += size) {
        const end = Math.min(start + size, 100);
        const values = weight.values.subarray(row * 100 + start, row * 100 + end);
        const parameters = grid.fit(values);
        const expected = values.map((value) => grid.value(grid.round(value, parameters), parameters));
        expect(found.subarray(row * 100 + start, row * 100 + end)).toEqual(expected);
      }
    }
  });

  it('gives the same bytes on any number of threads', async () => {
    const weight = matrix(100, 172);
    const [first, ...others] = await Promise.all(
      [1, 2, 3].map((threads) => roundToNearest(weight, defaults, threads)),
    );
    for (const other of others) expect(other).toEqual(first);
  });

  it.each([
    ['float16', floatToHalf, halfToFloat],
    ['bfloat16', floatToBfloat, bfloatToFloat],
  ] as const)('takes weights as %s, too, and rounds them as their values', async (dtype, narrow, widen) => {
    const [rows, columns] = [37, 101];
    const codes = narrow(matrix(rows, columns).values);
    const plain = stored(dtype, [rows, columns], codes);
    const values = () => {
      throw new Error('values were asked for');
    };
    const narrowly = Object.defineProperty({ rows, columns, plain }, 'values', { get: values }) as Matrix;
    expect(await roundToNearest(narrowly, defaults)).toEqual(
      await roundToNearest({ rows, columns, values: widen(codes) }, defaults),
    );
  });

  it('is the same for rows one by one and together', async () => {
    // More weights than are taken at once.
    const [rows, columns] = [600, 2 ** 15];
    const values = Float32Array.from({ length: rows * columns }, (_, i) => ((i * 40503) % 1009) / 1009 - 0.5);
    const choice = { ...defaults, range: 'minmax' as const };
    const whole = await roundToNearest({ rows, columns, values }, choice);
    const row = 599;
    const last = { rows: 1, columns, values: values.subarray(row * columns) };
    const alone = await roundToNearest(last, choice);
    expect(whole.packed.subarray((row * columns) / 2)).toEqual(alone.packed);
    expect(whole.scales.subarray((row * columns) / 32)).toEqual(alone.scales);
  });

  it('keeps scales that float16 cannot hold', async () => {
    const values = Float32Array.from({ length: 64 }, (_, i) => (i - 31) * 1e-9);
    const encoding = groupedPacked(await roundToNearest({ rows: 2, columns: 32, values }, defaults));
    expect(encoding.tensors.get('scales')!.dtype).toBe('float32');
    expect(encoding.dense()[63]).toBeCloseTo(32e-9, 9);
  });

  it('refuses weights that are not finite', async () => {
    const weight = matrix(4, 40);
    weight.values[50] = Number.NaN;
    await expect(roundToNearest(weight, defaults)).rejects.toThrow(LapidaryError);
    await expect(roundToNearest(weight, defaults)).rejects.toThrow(/row 1, column 10/);
  });
});
