import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { random } from '../base/random.ts';
import { openCheckpoint } from '../io/checkpoint.ts';
import { gptq } from '../methods/quantize/gptq.ts';
import { loadModel } from '../models/index.ts';
import { steadyThreads } from './threads.ts';
import type { Target } from './targets.ts';
import { walk } from './walk.ts';

describe('threads of the walk, for the model that ships with the package', async () => {
  const model = loadModel(await openCheckpoint('models/pebble'));

  it('are as many as asked for where the text is long, and fewer where a run is shorter than a layer is wide', () => {
    expect(steadyThreads(model, 2048, 16)).toBe(16);
    expect(steadyThreads(model, 768, 16)).toBe(16);
    expect(steadyThreads(model, 767, 16)).toBe(9);
    expect(steadyThreads(model, 767, 3)).toBe(3);
    expect(steadyThreads(model, 5, 16)).toBe(1);
    expect(steadyThreads(model, 2048)).toBeUndefined();
  });

  it('change no bit of the result, however many are asked for', async () => {
    const draws = random(5);
    const sequences = [1, 2].map(() =>
      Int32Array.from({ length: 129 }, () => draws.integer(model.config.vocabulary)),
    );
    const options = gptq.options.parse({ bits: 8, group: 32 });
    const outcome = async (threads: number) => {
      const assign = ({ layer }: Target) => (layer === 0 ? { method: gptq, options } : undefined);
      const { model: walked, layers } = await walk(model, sequences, { assign, threads });
      const hash = createHash('sha256');
      for (const { name } of layers) hash.update(walked.matrices.get(name)!.dense());
      return [hash.digest('hex'), ...layers.map(({ error }) => error)];
    };
    expect(await outcome(10)).toEqual(await outcome(1));
  });
});
