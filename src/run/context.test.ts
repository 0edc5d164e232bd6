/** What methods that see the whole model get by asking. */

import { describe, expect, it } from 'vitest';
import { taylor, unwritten } from '../../test/conformance/asking.ts';
import { tinyLlama } from '../../test/models/tiny.ts';
import { random } from '../base/random.ts';
import type { Gradients } from '../contract/gradients.ts';
import type { ModelRewrite, RewriteContext } from '../contract/method.ts';
import { denseValues } from '../encodings/dense.ts';
import type { Model } from '../models/model.ts';
import { logits } from '../models/runner.ts';
import { linearLayers } from '../models/size.ts';
import { checkRecipe } from '../recipe/recipe.ts';
import { applyRecipe } from './apply.ts';

const model = tinyLlama({ tied: false });
const source = random(3);
const calibration = Array.from({ length: 3 }, () =>
  Int32Array.from({ length: 12 }, () => source.integer(10)),
);
const [length, vocabulary] = [12, 10];
const names = linearLayers(model).flatMap(({ name, layer }) => (layer === undefined ? [] : [name]));

/** What the context answers a method while a recipe is applied. */
async function answers<T>(
  method: ModelRewrite,
  take: (context: RewriteContext) => Promise<T>,
  { seed = 0, text = calibration } = {},
): Promise<{ readonly taken: T; readonly made: Model }> {
  let taken: T;
  const watched: ModelRewrite = {
    ...method,
    async rewrite(given, options, context) {
      taken = await take(context);
      return method.rewrite(given, options, context);
    },
  };
  const recipe = checkRecipe({ seed, steps: [{ method: watched }] });
  const { model: made } = await applyRecipe(model, recipe, { calibration: text }, { threads: 1 });
  return { taken: taken!, made };
}

/** Log probabilities of all tokens at each position, in float64. */
async function predictions(of: Model): Promise<Float64Array> {
  const all = Float64Array.from((await logits(of, calibration)).data as Float32Array);
  for (let at = 0; at < all.length; at += vocabulary) {
    const row = all.subarray(at, at + vocabulary);
    const sum = Math.log(row.reduce((total, value) => total + Math.exp(value), 0));
    for (let i = 0; i < vocabulary; i++) row[i] -= sum;
  }
  return all;
}

/** -log p of the tokens that come next, on average. */
async function lossOf(of: Model): Promise<number> {
  const all = await predictions(of);
  let sum = 0;
  for (const [index, ids] of calibration.entries())
    for (let at = 0; at + 1 < length; at++) sum -= all[(index * length + at) * vocabulary + ids[at + 1]!]!;
  return sum / (calibration.length * (length - 1));
}

function nudged(name: string, at: number, by: number): Model {
  const { dense, shape } = model.matrices.get(name)!;
  const values = dense();
  values[at] += by;
  return { ...model, matrices: new Map(model.matrices).set(name, denseValues(values, ...shape)) };
}

const largest = (values: Float32Array): number =>
  values.reduce((most, each) => Math.max(most, Math.abs(each)), 0);

describe('a method that asks for gradients', () => {
  it('gets the slope of the loss by each weight of the matrices that it names: central differences', async () => {
    const { taken } = await answers(taylor, ({ gradients }) => gradients({ slopes: new Set(names) }));
    expect([...taken.slopes.keys()]).toEqual(names);
    expect([taken.importance.size, taken.weights.size, taken.metrics]).toEqual([0, 0, undefined]);
    const size = 0.01;
    for (const name of names) {
      const [slopes, { shape }] = [taken.slopes.get(name)!, model.matrices.get(name)!];
      expect(slopes.length).toBe(shape[0] * shape[1]);
      expect(slopes.every(Number.isFinite)).toBe(true);
      for (const at of [0, 7, slopes.length - 1]) {
        const [up, down] = [await lossOf(nudged(name, at, size)), await lossOf(nudged(name, at, -size))];
        expect(Math.abs((up - down) / (2 * size) - slopes[at]!), `${name} ${at}`).toBeLessThan(
          0.01 * largest(slopes),
        );
      }
    }
  });

  it('gets squares that tell the KL divergence of small changes, on average of many draws', async () => {
    const name = 'model.layers.1.mlp.down_proj';
    // Tokens of a run have signs of their own each, and are squared together: a run is a draw.
    const text = Array.from({ length: 4000 }, () => calibration).flat();
    const { taken } = await answers(taylor, ({ gradients }) => gradients({ weights: new Set([name]) }), {
      text,
    });
    const squares = taken.weights.get(name)!;
    expect([taken.slopes.size, squares.length]).toEqual([0, 96]);
    const before = await predictions(model);
    const size = 0.03;
    for (const at of [0, 50, 95]) {
      let divergence = 0;
      for (const by of [size, -size]) {
        const after = await predictions(nudged(name, at, by));
        for (const [place, log] of before.entries())
          divergence += (Math.exp(log) * (log - after[place]!)) / 2;
      }
      // Half of F times the square of the change, of a token.
      const expected = (2 * divergence) / (calibration.length * length) / size ** 2;
      expect(squares[at]! / expected).toBeGreaterThan(0.7);
      expect(squares[at]! / expected).toBeLessThan(1.4);
    }
  });

  it('is told that it needs text, and that codes have no gradient', async () => {
    const asked = ({ gradients }: RewriteContext): Promise<Gradients> =>
      gradients({ slopes: new Set(names) });
    await expect(answers(taylor, asked, { text: [] })).rejects.toThrow(
      /need calibration text, and there is none/,
    );
    const late: ModelRewrite = { ...taylor, name: 'late', changes: 'structure', keepsEncodings: true };
    const recipe = checkRecipe({ steps: [{ method: 'rtn', group: -1 }, { method: late }] });
    await expect(applyRecipe(model, recipe, { calibration }, { threads: 1 })).rejects.toThrow(
      /model\.layers\.0.*: there is no gradient by the weights of this matrix/,
    );
  });
});

describe('a method that asks for text of the model itself', () => {
  it('gets as many sequences as it asks for, of one length, the same for the same seed', async () => {
    const asked = ({ samples }: RewriteContext) => samples({ count: 5, length: 9 });
    const { taken: first, made } = await answers(unwritten, asked, { text: [] });
    expect(first.map((ids) => ids.length)).toEqual([9, 9, 9, 9, 9]);
    expect(first.every((ids) => ids.every((id) => id >= 0 && id < vocabulary))).toBe(true);
    expect(new Set(first.map(String)).size).toBeGreaterThan(1);
    const { taken: again, made: same } = await answers(unwritten, asked, { text: [] });
    expect(again).toEqual(first);
    const bytesOf = ({ matrices }: Model) => [...matrices.get('model.embed_tokens')!.dense()];
    expect(bytesOf(same)).toEqual(bytesOf(made));
    const { taken: other } = await answers(unwritten, asked, { text: [], seed: 1 });
    expect(other).not.toEqual(first);
  });
});
