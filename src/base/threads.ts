/**
 * Threads where nobody names a number: those of OMP_NUM_THREADS, by which schedulers and shared machines say how many a
 * program may take, else one for each core.
 */

import { availableParallelism } from 'node:os';

/** What OMP_NUM_THREADS says; of a list, for nested regions, the first. Undefined where it is not set or no number. */
export function namedThreads(): number | undefined {
  const named = /^\s*([1-9]\d*)\s*(,|$)/.exec(process.env.OMP_NUM_THREADS ?? '')?.[1];
  return named === undefined ? undefined : Number(named);
}

export const defaultThreads = (): number => namedThreads() ?? availableParallelism();
