/** What a thread that sleeps for a reply takes for one. */

import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { patience } from '../../../test/patience.ts';
import { comes } from './guard.ts';

/** Wakes whoever sleeps, `times` times; the reply is there with the last of them, or never. */
const waker = `
const { workerData: { answered, times, replies } } = require('node:worker_threads');
for (let left = times; left > 0; ) {
  if (left === 1 && replies) Atomics.store(answered, 0, 1);
  if (Atomics.notify(answered, 0) > 0) left--;
}`;

describe('a thread that sleeps for a reply', () => {
  const woken = async (times: number, replies: boolean, most: number) => {
    const answered = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(waker, { eval: true, workerData: { answered, times, replies } });
    const there = comes(answered, most);
    const value = Atomics.load(answered, 0);
    await worker.terminate();
    return { there, value };
  };

  it('sleeps on when the call of an earlier reply wakes it', async () => {
    expect(await woken(1, true, patience)).toEqual({ there: true, value: 1 });
    expect(await woken(4, true, patience)).toEqual({ there: true, value: 1 });
  });

  it('says so where none comes', async () => {
    expect(await woken(1, false, 200)).toEqual({ there: false, value: 0 });
  });
});
