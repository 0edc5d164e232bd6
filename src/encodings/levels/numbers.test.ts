/** Values and rounding as PyTorch, torchao and bitsandbytes have them; how they were made stands in test/goldens/README.md. */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { halfCode, halfValue } from '../../base/half.ts';
import { e4m3, e8m0 } from './minifloat.ts';
import { fitScale } from './grid.ts';
import { globalFactor, numberFormat, numberNames, scaleCode, storedScale } from './numbers.ts';
import { levelTable, nearestLevel } from './table.ts';

const goldens = JSON.parse(
  readFileSync(new URL('../../../test/goldens/numbers.json', import.meta.url), 'utf8'),
) as {
  values: Record<'fp8-e4m3' | 'fp8-e5m2' | 'fp4' | 'nf4' | 'e8m0', string>;
  rounded: Record<'fp8-e4m3' | 'fp8-e5m2' | 'fp4', { numbers: string; codes: string }>;
};
const bytes = (text: string) => Uint8Array.from(Buffer.from(text, 'base64'));
const floats = (text: string) => new Float32Array(bytes(text).buffer);
const finite = (values: Float32Array) => values.map((value) => (Number.isFinite(value) ? value : Number.NaN));

describe('number formats', () => {
  it.each(['fp8-e4m3', 'fp8-e5m2', 'fp4', 'nf4'] as const)('%s has the values that others have', (name) => {
    expect(numberFormat(name).values).toEqual(finite(floats(goldens.values[name])));
  });

  it('have powers of two for E8M0 scales, and no number for the last code', () => {
    expect(e8m0).toEqual(floats(goldens.values.e8m0));
  });

  it.each(['fp8-e4m3', 'fp8-e5m2', 'fp4'] as const)('%s rounds as PyTorch does, halves too', (name) => {
    const { values, table } = numberFormat(name);
    const codes = bytes(goldens.rounded[name].codes);
    const found = floats(goldens.rounded[name].numbers).map(
      (number) => table.levels[nearestLevel(table, number)],
    );
    // Of two zeros there is one here.
    expect(found.map((value) => value + 0)).toEqual(Float32Array.from(codes, (code) => values[code] + 0));
  });

  it.each(numberNames)('%s: the nearest of all levels, whatever lies between', (name) => {
    const { values, table } = numberFormat(name);
    const all = values.filter((value) => !Number.isNaN(value));
    const most = all.reduce((a, b) => Math.max(a, Math.abs(b)));
    for (let i = -300; i <= 300; i++) {
      const value = (1.2 * most * i) / 300;
      const error = Math.abs(table.levels[nearestLevel(table, value)] - value);
      expect(error).toBe(all.reduce((least, level) => Math.min(least, Math.abs(level - value)), Infinity));
      expect(values[table.codes[nearestLevel(table, value)]]).toBe(table.levels[nearestLevel(table, value)]);
    }
    expect(table.levels[nearestLevel(table, Infinity)]).toBe(Math.max(...all));
    expect(table.levels[nearestLevel(table, -Infinity)]).toBe(Math.min(...all));
  });

  it('a table leaves out what is no number and the second zero', () => {
    const { size, levels, codes } = levelTable(Float32Array.of(0, 2, Number.NaN, -0, -3));
    expect([size, levels, codes]).toEqual([4, Float32Array.of(-3, 0, 2, 0), Uint8Array.of(4, 0, 1, 0)]);
  });
});

describe('scales', () => {
  const values = Float32Array.of(0.5, -3, 1, 0.02);
  const plain = (name: (typeof numberNames)[number], some = values) =>
    fitScale(numberFormat(name), some, { range: 'minmax', floats: 'float32', factor: globalFactor(3) });

  it('let the largest weight reach the largest value', () => {
    expect(plain('nf4')).toBe(3);
    expect(plain('fp4')).toBe(0.5);
    expect(plain('fp8-e4m3')).toBe(Math.fround(3 / 448));
    expect(plain('nvfp4')).toBe(0.5);
  });

  it('are powers of two in microscaling formats: the largest weight has the largest exponent', () => {
    expect(plain('mxfp4')).toBe(0.5);
    expect(plain('mxfp8')).toBe(2 ** (1 - 8));
    expect(plain('mxfp4', Float32Array.of(3.999))).toBe(0.5);
    expect(plain('mxfp4', Float32Array.of(4))).toBe(1);
    expect(plain('mxfp4', Float32Array.of(1e-40))).toBe(2 ** -126);
  });

  it('are the mean size for ternary weights', () => {
    expect(plain('ternary')).toBe(Math.fround(4.52 / 4));
  });

  it.each(numberNames)('%s: of zeros can be divided by', (name) => {
    for (const range of ['minmax', 'mse'] as const) {
      const choice = { range, floats: 'float16', factor: globalFactor(0) } as const;
      expect(fitScale(numberFormat(name), new Float32Array(4), choice)).toBeGreaterThan(0);
    }
  });

  it('of E4M3 are never 0, and none is beyond 448', () => {
    expect(e4m3[scaleCode('e4m3', 1e-9, 1)]).toBe(2 ** -9);
    expect(e4m3[scaleCode('e4m3', 1e9, 1)]).toBe(448);
  });

  it('are float16 where that has a normal number for them', () => {
    const stored = (scale: number) => storedScale('float', scale, { floats: 'float16', factor: 1 });
    expect(stored(0.1)).toBe(halfValue(halfCode(0.1)));
    expect(stored(1e-6)).toBe(Math.fround(1e-6));
  });
});
