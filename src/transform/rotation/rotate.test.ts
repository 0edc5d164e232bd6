import { describe, expect, it } from 'vitest';
import { tinyLlama } from '../../../test/models/tiny.ts';
import { random } from '../../base/random.ts';
import { stored } from '../../base/tensor.ts';
import { denseValues } from '../../encodings/dense.ts';
import { openCheckpoint } from '../../io/checkpoint.ts';
import { loadModel } from '../../models/index.ts';
import type { Model } from '../../models/model.ts';
import { logits } from '../../models/runner.ts';
import { quarot } from '../../methods/quantize/quarot.ts';
import { contextOf } from '../../run/context.ts';
import { fold } from './fold.ts';
import { randomRotation, withTurner } from './rotation.ts';

const rotated = (model: Model) => quarot.rewrite(model, {}, contextOf(model, [], { seed: 3, threads: 1 }));

async function apart(a: Model, b: Model): Promise<number> {
  const ids = [Int32Array.from({ length: 10 }, (_, i) => (7 * i + 1) % a.config.vocabulary)];
  const [x, y] = [await logits(a, ids, { threads: 1 }), await logits(b, ids, { threads: 1 })].map(
    ({ data }) => data as Float32Array,
  );
  const largest = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i])), 0) / largest;
}

describe('random rotations', () => {
  it.each([
    ['a Hadamard matrix', 12, false],
    ['blocks of 36', 108, false],
    ['a dense matrix', 9, false],
    ['a Hadamard matrix that keeps the mean', 12, true],
    ['blocks that keep the mean', 108, true],
    ['a dense matrix that keeps the mean', 9, true],
  ])('are orthogonal: %s', async (_, size, keepsMean) => {
    const { values } = await withTurner({ threads: 1 }, (turner) =>
      randomRotation(size, random(1), { turner, keepsMean }),
    );
    for (let i = 0; i < size; i++) {
      const row = values.subarray(i * size, (i + 1) * size);
      const sum = row.reduce((total, value) => total + value, 0);
      if (keepsMean) expect(sum).toBeCloseTo(1, 5);
      for (let j = 0; j < size; j++) {
        const product = row.reduce((total, value, k) => total + value * values[j * size + k], 0);
        if (Math.abs(product - Number(i === j)) > 1e-5) expect.fail(`rows ${i}, ${j}: ${product}`);
      }
    }
  });
});

describe('a rotated model', () => {
  it.each(['llama', 'llama-bias', 'llama-tied-llama3rope', 'mistral', 'qwen2', 'qwen3', 'gpt2'])(
    'computes what it did: %s',
    async (name) => {
      const model = loadModel(await openCheckpoint(`test/models/${name}`));
      const turned = await rotated(model);
      expect(await apart(model, turned)).toBeLessThan(1e-5);
      for (const matrix of model.matrices.keys()) {
        expect(turned.matrices.get(matrix)!.dense(), matrix).not.toEqual(model.matrices.get(matrix)!.dense());
      }
    },
  );

  it('has a head of its own, and its config.json says so', async () => {
    const { config, matrices } = await rotated(tinyLlama({ tied: true }));
    expect(config.tiedHead).toBe(false);
    expect(config.json.tie_word_embeddings).toBe(false);
    expect(matrices.get('lm_head')!.shape).toEqual([10, 8]);
  });

  it('is the same for the same seed', async () => {
    const model = tinyLlama({ tied: false });
    const [a, b] = [await rotated(model), await rotated(model)];
    for (const [name, matrix] of a.matrices) expect(matrix.dense()).toEqual(b.matrices.get(name)!.dense());
  });

  it('has no outliers left: a channel that was a hundred times larger is spread over all', async () => {
    const model = tinyLlama({ tied: false });
    const values = model.matrices
      .get('model.embed_tokens')!
      .dense()
      .map((value, i) => (i % 8 ? value : 100 * value));
    const matrices = new Map(model.matrices).set('model.embed_tokens', denseValues(values, 10, 8));
    const turned = await rotated({ ...model, matrices });
    const ratio = (table: Float32Array) => {
      const squares = new Float64Array(8);
      table.forEach((value, i) => (squares[i % 8] += value * value));
      return Math.max(...squares) / Math.min(...squares);
    };
    expect(ratio(values)).toBeGreaterThan(1000);
    expect(ratio(turned.matrices.get('model.embed_tokens')!.dense())).toBeLessThan(2);
  });
});

describe('folding norms', () => {
  it('refuses a bias that cannot be kept, by name', async () => {
    const model = loadModel(await openCheckpoint('test/models/gpt2'));
    const name = 'transformer.ln_f.weight';
    const weight = new Float32Array(model.config.hidden).fill(1);
    weight[3] = 0;
    const vectors = new Map(model.vectors).set(name, stored('float32', [weight.length], weight));
    expect(() => fold({ ...model, vectors })).toThrow('transformer.ln_f.bias, channel 3');
  });
});
