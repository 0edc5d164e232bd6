import { expect, it } from 'vitest';
import { tinyLlama } from '../../test/models/tiny.ts';
import { sampledSequences } from './sampled.ts';

it('lets the model write sequences of one length, the same for the same seed', async () => {
  const model = tinyLlama({ tied: true });
  const options = { count: 20, length: 12, threads: 1 };
  const one = await sampledSequences(model, { ...options, seed: 1 });
  expect(one.map(({ length }) => length)).toEqual(new Array(20).fill(12));
  expect(one.flatMap((ids) => [...ids]).every((id) => id >= 0 && id < model.config.vocabulary)).toBe(true);
  expect(await sampledSequences(model, { ...options, seed: 1 })).toEqual(one);
  const other = await sampledSequences(model, { ...options, seed: 2 });
  expect(other.map((ids) => ids.join())).not.toEqual(one.map((ids) => ids.join()));
});
