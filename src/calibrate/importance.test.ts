import { describe, expect, it } from 'vitest';
import { tinyLlama } from '../../test/models/tiny.ts';
import type { Tensor } from '../graph/session.ts';
import { tensor } from '../graph/session.ts';
import { idsTensor, openRunner } from '../models/runner.ts';
import type { ImportanceOptions } from './importance.ts';
import { predictionGradients } from './importance.ts';

const model = tinyLlama({ tied: false });
const sequence = Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6);
const name = 'model.layers.0.mlp.down_proj';

/** Of each token: KL divergence of the predictions, summed over what its output's coordinates are changed by, one by one. */
async function divergences(size: number): Promise<number[]> {
  const runner = openRunner(model);
  const [embed, first, second, head] = [
    await runner.embed(),
    await runner.block(0),
    await runner.block(1),
    await runner.head(),
  ];
  const predictions = async (x: Tensor) => (await head.run({ x: (await second.run({ x })).hidden })).logits;
  // What the layer gives is added to the hidden states, so these can be changed in its place.
  const x = (await first.run({ x: (await embed.run({ ids: idsTensor([sequence], 10) })).hidden })).hidden;
  const original = logProbabilities(await predictions(x));
  const found: number[] = [];
  for (let token = 0; token < sequence.length; token++) {
    const changed = new Float32Array(16 * x.dims[1] * 8);
    for (let row = 0; row < 16; row++) {
      changed.set(x.data as Float32Array, row * x.dims[1] * 8);
      changed[(row * x.dims[1] + token) * 8 + (row % 8)] += row < 8 ? size : -size;
    }
    const other = logProbabilities(await predictions(tensor('float32', [16, x.dims[1], 8], changed)));
    let sum = 0;
    for (const [at, log] of other.entries()) {
      const before = original[at % original.length];
      sum += Math.exp(before) * (before - log);
    }
    found.push(sum);
  }
  await runner.release();
  return found;
}

function logProbabilities({ data }: Tensor): Float64Array {
  const found = Float64Array.from(data as Float32Array);
  for (let at = 0; at < found.length; at += 10) {
    const row = found.subarray(at, at + 10);
    const sum = Math.log(row.reduce((total, value) => total + Math.exp(value), 0));
    for (let i = 0; i < 10; i++) row[i] -= sum;
  }
  return found;
}

const shares = (values: readonly number[]) => {
  const sum = values.reduce((a, b) => a + b);
  return values.map((value) => value / sum);
};

const importanceOf = async (
  sequences: readonly Int32Array[],
  names: ReadonlySet<string>,
  options: ImportanceOptions,
) => (await predictionGradients(model, sequences, { names, metrics: false }, options)).importance;

describe("a token's importance for a layer", () => {
  it('is the KL divergence that small changes of what the layer gives for it make, on average of many draws', async () => {
    const draws = 2000;
    const found = await importanceOf(Array(draws).fill(sequence), new Set([name]), { seed: 1 });
    const { weights } = found.get(name)!;
    const mean = Array.from(sequence, (_, token) => {
      let sum = 0;
      for (let at = token; at < weights.length; at += sequence.length) sum += weights[at];
      return sum / draws;
    });
    const expected = shares(await divergences(0.02));
    for (const [token, share] of shares(mean).entries()) expect(share / expected[token]).toBeCloseTo(1, 1);
    // They differ enough to be told from each other.
    expect(Math.max(...expected) / Math.min(...expected)).toBeGreaterThan(2);
  });

  it('is 1 on average, the same for the same seed, and there for every layer that is asked for', async () => {
    const names = new Set([...model.matrices.keys()].filter((each) => each.includes('layers')));
    const [one, same, other] = [7, 7, 8].map((seed) =>
      importanceOf([sequence, sequence.toReversed()], names, { seed }),
    );
    expect(new Set((await one).keys())).toEqual(names);
    expect(await same).toEqual(await one);
    expect(await other).not.toEqual(await one);
    for (const { weights } of (await one).values()) {
      expect(weights).toHaveLength(16);
      expect(weights.reduce((a, b) => a + b) / 16).toBeCloseTo(1, 5);
      expect(Math.min(...weights)).toBeGreaterThan(0);
    }
  });

  it('stops when it is told to', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    const work = importanceOf([sequence], new Set([name]), { seed: 1, signal });
    await expect(work).rejects.toThrow('enough');
  });
});

describe('how predictions hang on what a block gives', () => {
  const given = [sequence, Int32Array.of(2, 7, 1, 8, 2, 8, 1, 8)];
  const options = { seed: 4, threads: 1 };

  it('adds up over the diagonal to the squared gradients of its tokens', async () => {
    const names = new Set(['model.layers.0', 'model.layers.1']);
    const { metrics, importance } = await predictionGradients(
      model,
      given,
      { names, metrics: true },
      options,
    );
    expect(metrics!.length).toBe(2);
    for (const [layer, metric] of metrics!.entries()) {
      const { mean } = importance.get(`model.layers.${layer}`)!;
      const trace = Array.from({ length: 8 }, (_, i) => metric[9 * i]).reduce((a, b) => a + b);
      expect(trace / mean).toBeCloseTo(1, 5);
    }
  });

  it('is symmetric, and nowhere negative', async () => {
    const { metrics } = await predictionGradients(model, given, { names: new Set(), metrics: true }, options);
    const [metric] = metrics!;
    const at = (i: number, j: number) => metric[8 * i + j];
    for (let i = 0; i < 8; i++) {
      for (let j = 0; j < 8; j++) {
        expect(at(i, j)).toBeCloseTo(at(j, i), 6);
        expect(at(i, j) ** 2).toBeLessThanOrEqual(at(i, i) * at(j, j) * 1.0001);
      }
    }
  });
});
