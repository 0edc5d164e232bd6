import { describe, expect, it } from 'vitest';
import { halfCode, halfValue } from '../base/half.ts';
import { random } from '../base/random.ts';
import { roundEven } from '../base/round.ts';
import { integerGrid } from './grid.ts';

const plain = { bits: 4, symmetric: false, range: 'minmax', scales: 'float32' } as const;
const { normal } = random(1);
const values = Float32Array.from({ length: 32 }, () => 0.1 * normal());

describe('the integer grid', () => {
  it('rounds halves to even, as PyTorch and SIMD do', () => {
    expect([-1.5, -0.5, 0.5, 1.5, 2.5, 2.4, 2.6].map(roundEven)).toEqual([-2, 0, 0, 2, 2, 2, 3]);
  });

  it.each([2, 3, 4, 8] as const)('spans all values and 0 in %i bits', (bits) => {
    const grid = integerGrid({ ...plain, bits });
    const parameters = grid.fit(values);
    const worst = Math.max(
      ...values.map((value) => Math.abs(grid.value(grid.round(value, parameters), parameters) - value)),
    );
    // The zero point is rounded, so the ends may be half a step off, too.
    expect(worst).toBeLessThanOrEqual(1.001 * parameters.scale);
    expect(grid.value(grid.round(0, parameters), parameters)).toBe(0);
    expect(grid.levels).toBe(2 ** bits);
  });

  it('has its zero in the middle when symmetric, also where all values are positive', () => {
    const grid = integerGrid({ ...plain, symmetric: true });
    expect(grid.fit(Float32Array.of(1, 3))).toEqual({ scale: Math.fround(6 / 15), zero: 8 });
  });

  it('gives zeros a scale that can be divided by', () => {
    for (const symmetric of [false, true]) {
      const grid = integerGrid({ ...plain, symmetric });
      const parameters = grid.fit(new Float32Array(5));
      expect(grid.value(grid.round(0, parameters), parameters)).toBe(0);
    }
  });

  it('rounds scales to float16 before codes are chosen, except where float16 has no normal number', () => {
    const grid = integerGrid({ ...plain, scales: 'float16' });
    const { scale } = grid.fit(values);
    expect(halfValue(halfCode(scale))).toBe(scale);
    const tiny = values.map((value) => value * 1e-6);
    expect(grid.fit(tiny)).toEqual(integerGrid(plain).fit(tiny));
  });

  it.each([2, 3, 4] as const)('with short scales has zero times scale in float16, in %i bits', (bits) => {
    const grid = integerGrid({ ...plain, bits, scales: 'short' });
    for (const size of [1e-9, 1e-7, 1e-5, 1e-3, 0.1, 10]) {
      const some = values.map((value) => value * size);
      const { scale } = grid.fit(some);
      const exact = integerGrid({ ...plain, bits }).fit(some).scale;
      for (let zero = 1; zero < 2 ** bits; zero++) {
        expect(halfValue(halfCode(zero * scale))).toBe(zero * scale);
      }
      expect(Math.abs(scale - exact)).toBeLessThanOrEqual(Math.max(exact * 2 ** (bits - 11), 2 ** -24));
    }
  });

  it('finds a range of less error than the full one', () => {
    const error = (range: 'minmax' | 'mse') => {
      const grid = integerGrid({ ...plain, range, bits: 2 });
      const parameters = grid.fit(values);
      return values.reduce(
        (sum, v) => sum + Math.abs(grid.value(grid.round(v, parameters), parameters) - v) ** 2.4,
        0,
      );
    };
    expect(error('mse')).toBeLessThan(error('minmax'));
  });
});
