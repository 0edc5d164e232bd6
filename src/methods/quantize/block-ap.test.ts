import { describe, expect, it } from 'vitest';
import { tinyLlama } from '../../../test/models/tiny.ts';
import { random } from '../../base/random.ts';
import { walk } from '../../calibrate/walk.ts';
import type { Encoding } from '../../encodings/encoding.ts';
import { encodedBytes } from '../../encodings/encoding.ts';
import type { Model } from '../../models/model.ts';
import { logits } from '../../models/runner.ts';
import type { BlockApOptions } from './block-ap.ts';
import { blockAp } from './block-ap.ts';
import { rtn } from './rtn.ts';

const model = tinyLlama({ tied: false });
const source = random(3);
const sequences = Array.from({ length: 32 }, () => Int32Array.from({ length: 16 }, () => source.integer(10)));

const train = (some: Partial<BlockApOptions> = {}, method: object = { bits: 2, group: 16 }) =>
  walk(model, sequences, {
    threads: 1,
    assign: ({ place }) =>
      place === 'block' ? { method: rtn, options: rtn.options.parse(method) } : undefined,
    trainings: [
      {
        method: blockAp,
        options: blockAp.options.parse({ blockSteps: 100, codeRate: 0.01, scaleRate: 0.003, ...some }),
      },
    ],
  });
const plainly = (method: object = { bits: 2, group: 16 }) =>
  walk(model, sequences, {
    threads: 1,
    assign: ({ place }) =>
      place === 'block' ? { method: rtn, options: rtn.options.parse(method) } : undefined,
  });

/** Mean KL divergence of the predictions from the original's, over all tokens. */
async function divergence(other: Model): Promise<number> {
  const [p, q] = [await logits(model, sequences), await logits(other, sequences)];
  const width = p.dims[2];
  const row = (data: unknown, at: number) => {
    const values = Array.from((data as Float32Array).subarray(at, at + width));
    const total = Math.log(values.reduce((sum, value) => sum + Math.exp(value), 0));
    return values.map((value) => value - total);
  };
  let sum = 0;
  for (let at = 0; at < p.data.length; at += width) {
    const [a, b] = [row(p.data, at), row(q.data, at)];
    sum += a.reduce((total, value, i) => total + Math.exp(value) * (value - b[i]), 0);
  }
  return (sum * width) / p.data.length;
}

const bytesOf = ({ matrices }: Model) =>
  [...matrices.values()].flatMap(({ tensors }) => [...tensors.values()].map((each) => each.bytes()));
const sizeOf = ({ matrices }: Model) =>
  [...matrices.values()].reduce((sum, each: Encoding) => sum + encodedBytes(each), 0);

describe('block-ap', () => {
  it('comes nearer to the predictions than rounding alone, in as many bytes', async () => {
    const [plain, trained] = [await plainly(), await train()];
    expect(await divergence(trained.model)).toBeLessThan(0.7 * (await divergence(plain.model)));
    expect(sizeOf(trained.model)).toBe(sizeOf(plain.model));
  });

  it('counts errors by what they do to predictions: with their metric these come nearer than without', async () => {
    const [alike, weighed] = [await train({ fisherMetric: 0 }), await train({ fisherMetric: 0.5 })];
    expect(await divergence(weighed.model)).toBeLessThan(await divergence(alike.model));
  });

  it('says the error of the outputs as it is after training', async () => {
    const [plain, trained] = [await plainly(), await train()];
    expect(trained.layers.map(({ name }) => name)).toEqual(plain.layers.map(({ name }) => name));
    for (const row of trained.layers) expect([row.method, row.errorOf]).toEqual(['rtn', 'outputs']);
  });

  it('gives the same bytes for the same seed', async () => {
    expect(bytesOf((await train()).model)).toEqual(bytesOf((await train()).model));
  });

  it('keeps what it was given where it gains nothing, or is not of integers', async () => {
    const frozen = await train({ codeRate: 0, scaleRate: 0 });
    expect(bytesOf(frozen.model)).toEqual(bytesOf((await plainly()).model));
    const levels = { numbers: 'nf4', group: 16 };
    expect(bytesOf((await train({}, levels)).model)).toEqual(bytesOf((await plainly(levels)).model));
  });

  it('needs text, and says so', async () => {
    const untaught = walk(model, [], {
      assign: () => undefined,
      trainings: [{ method: blockAp, options: blockAp.options.parse({}) }],
    });
    await expect(untaught).rejects.toThrow('the method block-ap needs calibration text');
  });
});
