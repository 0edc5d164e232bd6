import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { random } from '../../base/random.ts';
import { readDocuments } from '../../calibrate/data.ts';
import { packSequences } from '../../calibrate/sequences.ts';
import { walk } from '../../calibrate/walk.ts';
import type { Model } from '../../models/model.ts';
import { logits } from '../../models/runner.ts';
import { openForCompression, shipped } from '../../open.ts';
import type { Block } from '../../contract/method.ts';
import { awq } from './awq.ts';
import { rtn } from './rtn.ts';
import { plainly } from '../../rounding/nearest.ts';
import { block, down, goldenCase, scalesIn } from '../../../test/scaling-cases.ts';

const { awq: goldens } = JSON.parse(
  readFileSync(new URL('../../../test/goldens/scaling.json', import.meta.url), 'utf8'),
) as { awq: { bits: number; duo: boolean; scales: number[]; ranges: number[][] }[] };

/** The authors' rounding, of one matrix alone. */
const roundedTo =
  (bits: number): Block['rounded'] =>
  async (name, weight) => {
    if (name !== down) return undefined;
    const choice = rtn.options.parse({ bits, group: 32, range: 'minmax', scales: 'float32' });
    return (await plainly(weight, choice)).dense();
  };

describe.each(goldens)(
  '$bits bits, duo scaling $duo: the same as AutoAWQ',
  ({ bits, duo, scales, ranges }) => {
    it('chooses the scales', async () => {
      const found = await awq.rewrite(
        block(goldenCase(), roundedTo(bits)),
        awq.options.parse({ duo, clip: false }),
      );
      scalesIn(found).forEach((scale, channel) => expect(scale / scales[channel]).toBeCloseTo(1, 4));
    });

    it('clips to the ranges', async () => {
      const found = await awq.rewrite(block(goldenCase(), roundedTo(bits)), awq.options.parse({ duo }));
      const values = found.matrices.get(down)!.dense();
      const same = ranges.flatMap((row, r) =>
        row.map((range, group) => {
          const at = r * 96 + group * 32;
          const largest = Math.max(...values.subarray(at, at + 32).map(Math.abs));
          return Math.abs(largest / range - 1) < 1e-4;
        }),
      );
      // Sums in another order decide between ranges that are equally good.
      expect(same.filter(Boolean).length / same.length).toBeGreaterThan(0.98);
    });
  },
);

describe('channels that take no scales', () => {
  it('are those whose readers are not rounded', async () => {
    const found = await awq.rewrite(
      block(goldenCase(), async () => undefined),
      awq.options.parse({}),
    );
    expect(found.matrices.size + found.vectors.size).toBe(0);
  });
});

describe('sizes that no group divides', () => {
  it('are scaled and clipped as others, the same at every call', async () => {
    const { normal } = random(4);
    const odd = goldenCase({ columns: 83, value: () => normal() });
    const once = async () => (await awq.rewrite(block(odd, roundedTo(3)), awq.options.parse({}))).matrices;
    const [first, second] = [await once(), await once()];
    expect(first.get(down)!.shape).toEqual([64, 83]);
    expect(first.get(down)!.dense().every(Number.isFinite)).toBe(true);
    expect(second.get(down)!.dense()).toEqual(first.get(down)!.dense());
  });
});

describe('the first blocks of pebble', () => {
  let model: Model;
  let sequences: readonly Int32Array[];
  beforeAll(async () => {
    const opened = await openForCompression(undefined);
    const { config } = opened.model;
    model = { ...opened.model, config: { ...config, layers: config.layers.slice(0, 2) } };
    const documents = (await readDocuments(shipped.data, { limit: 40 })) as string[];
    ({ sequences } = packSequences(documents, opened.tokenizer, { length: 96, count: 8, seed: 0 }));
  });

  /** Mean squared error of the logits on text that nothing was fitted to. */
  async function lost(bits: number, rewritten: boolean): Promise<number> {
    const options = rtn.options.parse({ bits, group: 64, range: 'minmax' });
    const walked = await walk(model, sequences.slice(0, 6), {
      assign: ({ place }) => (place === 'block' ? { method: rtn, options } : undefined),
      rewrites: rewritten ? [{ method: awq, options: awq.options.parse({}) }] : [],
    });
    const [a, b] = [await logits(model, sequences.slice(6)), await logits(walked.model, sequences.slice(6))];
    const [before, after] = [a.data as Float32Array, b.data as Float32Array];
    return before.reduce((sum, value, index) => sum + (value - after[index]) ** 2, 0) / before.length;
  }

  it.each([3, 4])('lose less at %i bits than by rounding alone', async (bits) => {
    expect(await lost(bits, true)).toBeLessThan(0.97 * (await lost(bits, false)));
  });
});
