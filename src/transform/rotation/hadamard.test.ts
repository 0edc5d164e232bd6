import { describe, expect, it } from 'vitest';
import { hadamard, hasHadamard } from './hadamard.ts';

describe('Hadamard matrices', () => {
  it.each([1, 2, 4, 12, 20, 28, 36, 40, 44, 60, 64, 80, 96, 104, 144])(
    'of order %i have orthogonal rows of 1 and -1, the first column all 1',
    (order) => {
      const matrix = hadamard(order)!;
      expect(new Set(matrix.map(Math.abs))).toEqual(new Set([1]));
      const row = (index: number) => matrix.subarray(index * order, (index + 1) * order);
      for (let i = 0; i < order; i++) {
        expect(row(i)[0]).toBe(1);
        for (let j = 0; j <= i; j++) {
          let product = 0;
          for (let k = 0; k < order; k++) product += row(i)[k] * row(j)[k];
          if (product !== (i === j ? order : 0)) expect.fail(`rows ${i} and ${j}: ${product}`);
        }
      }
    },
  );

  it('are known for common hidden sizes', () => {
    const sizes = [576, 640, 768, 896, 960, 1024, 1152, 1280, 1536, 2048, 2304, 2560, 3072, 3584, 4096, 5120];
    expect(sizes.filter((size) => !hasHadamard(size))).toEqual([]);
  });

  it('are not made up where none exists or none is known here', () => {
    expect([3, 6, 10, 90, 92].map(hadamard)).toEqual(new Array(5).fill(undefined));
  });
});
