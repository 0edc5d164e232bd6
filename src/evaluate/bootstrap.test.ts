import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { bootstrap, quantile } from './bootstrap.ts';

describe('bootstrap over sequences', () => {
  const totals = [3, 8, 2, 9, 7, 4];
  const counts = [2, 4, 1, 5, 3, 2];

  it('is the same for the same seed, and another for another', () => {
    expect(bootstrap(totals, counts, { seed: 1 })).toEqual(bootstrap(totals, counts, { seed: 1 }));
    expect(bootstrap(totals, counts, { seed: 1, resamples: 500 })).not.toEqual(
      bootstrap(totals, counts, { seed: 2, resamples: 500 }),
    );
  });

  it('has no width when every sequence says the same', () => {
    const { low, high } = bootstrap([2, 4, 6], [1, 2, 3]);
    expect([low, high]).toEqual([2, 2]);
  });

  it('covers the truth about as often as it says, with sequences weighted by their tokens', () => {
    const draws = random(7);
    let covered = 0;
    const experiments = 200;
    for (let experiment = 0; experiment < experiments; experiment++) {
      const lengths = Array.from({ length: 40 }, () => 5 + draws.integer(20));
      const sums = lengths.map((length) => length * (1 + 0.3 * draws.normal()));
      const { low, high } = bootstrap(sums, lengths, { seed: experiment, resamples: 400 });
      if (low <= 1 && 1 <= high) covered++;
    }
    expect(covered / experiments).toBeGreaterThan(0.88);
    expect(covered / experiments).toBeLessThan(0.99);
  });
});

it('a quantile is linear between its neighbours', () => {
  expect(quantile([1, 2, 4], 0.5)).toBe(2);
  expect(quantile([1, 2, 4], 0.75)).toBe(3);
  expect(quantile([5], 0.99)).toBe(5);
});
