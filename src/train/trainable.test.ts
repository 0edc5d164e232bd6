/** A method trains the tensors that it names, and no others. */

import { describe, expect, it } from 'vitest';
import { magnitude } from '../../test/conformance/prune.ts';
import { tuneBlocks, tuneModel } from '../../test/conformance/train.ts';
import { tinyLlama } from '../../test/models/tiny.ts';
import { random } from '../base/random.ts';
import { floatToBfloat } from '../base/half.ts';
import { stored } from '../base/tensor.ts';
import { dense } from '../encodings/dense.ts';
import type { Model } from '../models/model.ts';
import { idsTensor } from '../models/runner.ts';
import { checkRecipe } from '../recipe/recipe.ts';
import { applyRecipe } from '../run/apply.ts';
import { lastHidden, openPasses } from './passes.ts';
import { trainable } from './trainable.ts';

const plain = tinyLlama({ tied: true });
const bias = 'model.layers.1.self_attn.q_proj.bias';
const source = random(3);
const calibration = Array.from({ length: 4 }, () =>
  Int32Array.from({ length: 12 }, () => source.integer(10)),
);
const session = { threads: 1 };
const apply = (steps: readonly object[], model = plain) =>
  applyRecipe(model, checkRecipe({ steps }), { calibration }, session);

/** Everything that is stored, by name: what a method has not named is the same object or the same bytes. */
const storedIn = ({ matrices, vectors }: Model): Map<string, string> =>
  new Map([
    ...[...matrices].flatMap(([name, { tensors }]) =>
      [...tensors].map(([suffix, each]) => [`${name}.${suffix}`, String(each.bytes())] as const),
    ),
    ...[...vectors].map(([name, each]) => [name, String(each.bytes())] as const),
  ]);

const differing = (before: Model, after: Model): string[] => {
  const [a, b] = [storedIn(before), storedIn(after)];
  expect([...b.keys()]).toEqual([...a.keys()]);
  return [...a.keys()].filter((name) => a.get(name) !== b.get(name));
};

const rtn = { method: 'rtn', bits: 3, group: -1 };
const pruned = { method: magnitude };
const cases = [
  ['scales', rtn, /_proj\.scales$/],
  ['weights', pruned, /_proj\.weight$/],
  ['norms', rtn, /norm\.weight$/],
] as const;

describe.each([tuneBlocks, tuneModel])('$name', (method) => {
  it.each(cases)('trains %s where it names these, and nothing else', async (trains, compressor, pattern) => {
    const [before, after] = [
      await apply([compressor]),
      await apply([compressor, { method, trains, rate: 0.01 }]),
    ];
    // Norms are stored in float32 before, too.
    const changed = differing(before.model, after.model);
    expect(changed.length).toBeGreaterThan(1);
    for (const name of changed) expect(name).toMatch(pattern);
  });
});

describe('weights that are trained', () => {
  it('stay zero where they were pruned, and the block comes nearer to what it computed', async () => {
    const [before, after] = [
      await apply([pruned]),
      await apply([pruned, { method: tuneBlocks, trains: 'weights', rate: 0.02, steps: 30 }]),
    ];
    for (const [name, encoding] of after.model.matrices) {
      const [old, now] = [before.model.matrices.get(name)!.dense(), encoding.dense()];
      expect(now.map((value) => Number(value === 0))).toEqual(old.map((value) => Number(value === 0)));
    }
    // Of what the last block gives: single matrices may go further from what they were.
    const lost = async (model: Model) => {
      const [of, from] = [model, plain].map((each) => lastHidden(each, calibration, session, undefined));
      const [found, aims] = [await of!, await from!];
      let sum = 0;
      for (const [at, { data }] of found.entries())
        for (const [i, value] of (data as Float32Array).entries())
          sum += (value - (aims[at]!.data as Float32Array)[i]!) ** 2;
      return sum;
    };
    expect(await lost(after.model)).toBeLessThan(0.9 * (await lost(before.model)));
  });

  it('are kept in the type that they had; shared ones and codes are not offered as weights', () => {
    const name = 'model.layers.0.mlp.up_proj';
    const { shape, dense: values } = plain.matrices.get(name)!;
    const half = dense(stored('bfloat16', shape, floatToBfloat(values())));
    const shared = plain.matrices.get('model.layers.0.mlp.gate_proj')!;
    const matrices = new Map(plain.matrices).set(name, half).set('model.layers.1.mlp.gate_proj', shared);
    const offered: string[] = [];
    const { finished } = trainable({ ...plain, matrices }, ({ kind, name }) => {
      offered.push(`${kind} ${name}`);
      return kind === 'weights';
    });
    expect(finished().matrices.get(name)!.plain!.dtype).toBe('bfloat16');
    expect(finished().matrices.get(name)!.dense()).toEqual(half.dense());
    expect(offered.filter((each) => each.includes('gate_proj'))).toEqual([]);
    expect(offered).toContain('norms model.norm.weight');
    expect(offered).not.toContain('weights model.embed_tokens');
  });
});

describe('gradients of the whole model by tensors that are named', () => {
  it('are central differences of the divergence, of weights, norms and biases', async () => {
    const vectors = new Map(plain.vectors).set(bias, stored('float32', [8], new Float32Array(8).fill(0.1)));
    const { model: other } = await apply([pruned]);
    // A bias that the architecture does not read is no parameter of its graph.
    const own = trainable({ ...other, vectors }, ({ kind }) => kind !== 'scales');
    expect([...own.parameters.keys()]).toContain(bias);
    const aims = await lastHidden(plain, calibration, session, undefined);
    const passes = await openPasses(own, plain, { ...session, longest: 12 });
    const run = () => passes.run(idsTensor(calibration, 10), aims);
    const { gradients } = await run();
    expect(gradients.has(bias)).toBe(false);
    const size = 0.01;
    for (const name of [
      'model.layers.0.mlp.down_proj.weight',
      'model.layers.1.input_layernorm.weight',
      'model.norm.weight',
    ]) {
      const [values, slopes] = [own.parameters.get(name)!, gradients.get(name)!.slice()];
      const most = slopes.reduce((largest, each) => Math.max(largest, Math.abs(each)), 0);
      for (const at of [0, 3, values.length - 1]) {
        const before = values[at]!;
        const [up, down] = [before + size, before - size];
        values[at] = up;
        const above = (await run()).loss;
        values[at] = down;
        const below = (await run()).loss;
        values[at] = before;
        expect(Math.abs((above - below) / (2 * size) - slopes[at]!), `${name} ${at}`).toBeLessThan(
          0.01 * most,
        );
      }
    }
    await passes.release();
  });
});
