import { describe, expect, it } from 'vitest';
import { openGolden } from '../../test/engines/models.ts';
import { toFloat32 } from '../base/half.ts';
import { openFile } from '../evaluate/file.ts';
import type { Model } from '../models/model.ts';
import { logits } from '../models/runner.ts';
import { cacheBytes, measureCache } from './cache.ts';
import type { ExportOptions } from './graph.ts';
import { exportGraph } from './graph.ts';

const ids = Int32Array.from({ length: 21 }, (_, i) => 3 + ((i * 37) % 200));

/** Logits of `ids`, the last five fed one by one, and the cache behind them. */
async function decoded(model: Model, options: ExportOptions) {
  const runner = await openFile(exportGraph(model, options));
  const all: number[] = [];
  let [past, cache] = [0, runner.empty()];
  for (const count of [16, 1, 1, 1, 1, 1]) {
    const step = await runner.step(ids.subarray(past, past + count), past, cache, 0);
    all.push(...(step.logits.data as Float32Array));
    cache = step.cache;
    past += count;
  }
  await runner.close();
  return { logits: all, cache };
}

/** Root mean square difference, in spreads. */
function distance(found: readonly number[], expected: Float32Array): number {
  const square = (values: Iterable<number>) => [...values].reduce((sum, value) => sum + value ** 2, 0);
  return Math.sqrt(square(found.map((value, i) => value - expected[i])) / square(expected));
}

describe('a cache in integers', () => {
  it.each([
    [8, 'int8', 16, 0.03],
    [4, 'uint8', 8, 0.3],
  ] as const)(
    'of %i bits is %s [..., %i], and the model is nearly the same',
    async (bits, type, size, allowed) => {
      const model = await openGolden('qwen3');
      const cache = await measureCache(model, [ids], bits);
      const expected = (await logits(model, [ids])).data as Float32Array;
      const result = await decoded(model, { cache });
      const { type: found, dims } = result.cache['past_key_values.0.key'];
      expect([found, ...dims]).toEqual([type, 1, 2, 21, size]);
      const difference = distance(result.logits, expected);
      expect(difference).toBeGreaterThan(1e-5);
      expect(difference).toBeLessThan(allowed);
    },
  );

  it('has the scale of every channel from the largest value seen', async () => {
    const model = await openGolden('qwen3');
    const { cache } = await decoded(model, {});
    const { scales } = await measureCache(model, [ids.slice(0, 5), ids], 8);
    const values = cache['past_key_values.1.value'].data as Float32Array;
    // Head 1, channel 3, of 21 tokens with 16 channels each.
    const channel = Array.from({ length: 21 }, (_, token) => Math.abs(values[(21 + token) * 16 + 3]));
    expect(scales[1]!.value.shape).toEqual([1, 2, 1, 16]);
    expect(toFloat32(scales[1]!.value)[16 + 3]).toBeCloseTo(Math.max(...channel) / 127, 6);
  });

  it('of 4 bits has the scale of every channel from the least squared error of what was seen', async () => {
    const model = await openGolden('qwen3');
    const { cache } = await decoded(model, {});
    const { scales } = await measureCache(model, [ids], 4);
    const values = cache['past_key_values.1.value'].data as Float32Array;
    const found = toFloat32(scales[1]!.value);
    let clipped = 0;
    for (let channel = 0; channel < 32; channel++) {
      const [head, place] = [Math.floor(channel / 16), channel % 16];
      const seen = Array.from({ length: 21 }, (_, token) => values[(head * 21 + token) * 16 + place]);
      const error = (scale: number) =>
        seen.reduce(
          (sum, value) => sum + (value - scale * Math.min(Math.max(Math.round(value / scale), -8), 7)) ** 2,
          0,
        );
      const widest = Math.max(...seen.map(Math.abs)) / 7;
      for (const reach of [1, 0.8, 0.6]) {
        expect(error(found[channel])).toBeLessThanOrEqual(error(widest * reach) * (1 + 1e-4));
      }
      if (found[channel] < widest * 0.99) clipped++;
    }
    expect(clipped).toBeGreaterThan(3);
  });

  it('takes a quarter or an eighth of the bytes', async () => {
    const model = await openGolden('qwen3');
    const perToken = ([32, 8, 4] as const).map((bits) => cacheBytes(model, bits));
    expect(perToken).toEqual([perToken[0], perToken[0] / 4, perToken[0] / 8]);
  });

  it('is refused where attention is written in plain nodes', async () => {
    const model = await openGolden('llama');
    await expect(
      measureCache(model, [ids], 8).then((cache) => exportGraph(model, { cache })),
    ).rejects.toThrow('heads of 12');
  });
});
