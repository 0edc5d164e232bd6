import { availableParallelism } from 'node:os';
import { afterEach, expect, it, vi } from 'vitest';
import { defaultThreads, namedThreads } from './threads.ts';

afterEach(() => void vi.unstubAllEnvs());

it.each([
  ['3', 3],
  [' 16 ', 16],
  ['4,2', 4],
])('OMP_NUM_THREADS=%o allows %i threads', (text, threads) => {
  vi.stubEnv('OMP_NUM_THREADS', text);
  expect([namedThreads(), defaultThreads()]).toEqual([threads, threads]);
});

it.each([undefined, '', '0', '-1', 'all', '2x'])(
  'OMP_NUM_THREADS=%o says nothing: one for each core',
  (text) => {
    vi.stubEnv('OMP_NUM_THREADS', text);
    expect([namedThreads(), defaultThreads()]).toEqual([undefined, availableParallelism()]);
  },
);
