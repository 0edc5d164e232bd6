import { describe, expect, it } from 'vitest';
import type { StatisticKind } from '../contract/statistic.ts';
import { moreOf, piecesOf, unitStatistic } from './statistics.ts';

describe('kinds of statistics', () => {
  it.each<readonly [StatisticKind, StatisticKind, StatisticKind]>([
    ['none', 'norm', 'norm'],
    ['norm', 'gram', 'full'],
    ['gram', 'cross', 'cross'],
    ['norm', 'cross', 'all'],
    ['full', 'gram', 'full'],
    ['full', 'cross', 'all'],
    ['cross', 'cross', 'cross'],
  ])('%s and %s are held by %s', (a, b, both) => {
    expect(moreOf(a, b)).toBe(both);
    expect(moreOf(b, a)).toBe(both);
  });

  it('have what they hold, and nothing that nobody asked for', () => {
    const given = (kind: StatisticKind) =>
      Object.entries(unitStatistic(kind, 2)).flatMap(([part, value]) => (value === undefined ? [] : [part]));
    expect(given('none')).toEqual(['tokens']);
    expect(given('norm').toSorted()).toEqual(['peaks', 'sizes', 'squares', 'tokens']);
    expect(given('gram').toSorted()).toEqual(['gram', 'squares', 'tokens']);
    expect(given('full').toSorted()).toEqual(['gram', 'peaks', 'sizes', 'squares', 'tokens']);
    expect([...unitStatistic('gram', 2).gram!]).toEqual([1, 0, 0, 1]);
  });
});

describe('pieces of a Gram matrix', () => {
  it.each([
    [64, 1],
    [383, 1],
    [384, 2],
    [576, 3],
    [768, 4],
    [1536, 4],
    [1538, 2],
  ])('of %i columns are %i to a side', (columns, count) => {
    expect(piecesOf(columns)).toEqual({ count, width: columns / count });
  });
});
