/** Heads behind layers before the last, in every architecture. */

import { describe, expect, it } from 'vitest';
import { maxDifference, quantized } from '../../test/engines/models.ts';
import { tinyLlama } from '../../test/models/tiny.ts';
import { random } from '../base/random.ts';
import { stored } from '../base/tensor.ts';
import { targetsOf } from '../calibrate/targets.ts';
import { formats } from '../formats/index.ts';
import { checkHeld } from '../formats/holds.ts';
import { openCheckpoint } from '../io/checkpoint.ts';
import { quarot } from '../methods/quantize/quarot.ts';
import { contextOf } from '../run/context.ts';
import { trainable } from '../train/trainable.ts';
import { addExit } from './exits.ts';
import { loadModel } from './index.ts';
import { keepLayers } from './layers.ts';
import type { Model } from './model.ts';
import { logits } from './runner.ts';
import { bytes, linearLayers, multiplyAdds, parameters } from './size.ts';

const architectures = ['llama', 'llama-bias', 'llama-tied-llama3rope', 'mistral', 'qwen2', 'qwen3', 'gpt2'];
const open = async (name: string) => loadModel(await openCheckpoint(`test/models/${name}`));
const ids = [Int32Array.from({ length: 9 }, (_, i) => (7 * i + 1) % 256)];
const of = async (model: Model, exit?: number) =>
  (await logits(model, ids, { exit, threads: 1 })).data as Float32Array;

const headOf = ({ architecture, config }: Model) => architecture.around(config).norm.readers[0].matrix;

/** With other values in the norm of an exit, so that it is told apart from the last one. */
function withNorm(model: Model, exit: number): Model {
  const { weight, bias } = model.architecture.around(model.config).exits[model.config.exits!.indexOf(exit)];
  const vectors = new Map(model.vectors);
  for (const [index, name] of [weight, bias].entries()) {
    if (name === undefined) continue;
    const { normal } = random(index).fork(name);
    const values = Float32Array.from({ length: model.config.hidden }, () => 1 + 0.2 * normal());
    vectors.set(name, stored('float32', [values.length], values));
  }
  return { ...model, vectors };
}

/** A Llama's, as a checkpoint has them. */
const tensorsOf = ({ matrices, vectors }: Model, without?: string) =>
  new Map(
    [...[...matrices].map(([name, { plain }]) => [`${name}.weight`, plain!] as const), ...vectors].filter(
      ([name]) => name !== without,
    ),
  );

const reload = (model: Model, tensors = tensorsOf(model)) =>
  loadModel({ source: 'again', json: model.config.json, tensors, files: model.files });

describe.each(architectures)('an exit of %s', (name) => {
  it('computes what the model does that ends behind its layer, and leaves the last head as it was', async () => {
    const plain = await open(name);
    const model = addExit(addExit(plain, 1), 0);
    expect(model.config.exits).toEqual([0, 1]);
    for (const exit of [0, 1]) {
      const layers = Array.from({ length: exit + 1 }, (_, layer) => layer);
      expect(await of(model, exit)).toEqual(await of(keepLayers(plain, layers)));
    }
    expect(await of(model)).toEqual(await of(plain));
  });

  it('shares the last matrix or has its own: counted once, on no way to the last head', async () => {
    const plain = await open(name);
    const { hidden, vocabulary } = plain.config;
    const matrix = plain.matrices.get(headOf(plain))!;
    const norm = (name === 'gpt2' ? 2 : 1) * hidden;
    const [shared, own] = [addExit(plain, 0), addExit(plain, 0, { ...matrix })];
    expect(parameters(shared) - parameters(plain)).toBe(norm);
    expect(parameters(own) - parameters(shared)).toBe(vocabulary * hidden);
    expect(bytes(own) - bytes(shared)).toBe((matrix.bits / 8) * vocabulary * hidden);
    for (const model of [shared, own]) expect(multiplyAdds(model)).toBe(multiplyAdds(plain));
    const targets = (model: Model) => targetsOf(model).filter(({ place }) => place === 'exit');
    expect(targets(shared)).toEqual([]);
    expect(targets(own)).toEqual([{ name: 'exits.0.head', place: 'exit', exit: 0, shape: matrix.shape }]);
  });

  it('is one matrix with the last where this is in codes', async () => {
    const model = addExit(await quantized(await open(name), 4), 0);
    expect(
      linearLayers(model)
        .map(({ exit }) => exit)
        .slice(-2),
    ).toEqual([undefined, 0]);
    expect(targetsOf(model).some(({ place }) => place === 'exit')).toBe(false);
  });

  it('is turned with the rest of a rotated model', async () => {
    const plain = await open(name);
    const own = addExit(plain, 1, { ...plain.matrices.get(headOf(plain))! });
    const model = withNorm(withNorm(addExit(own, 0), 0), 1);
    const turned = await quarot.rewrite(model, {}, contextOf(model, [], { seed: 3, threads: 1 }));
    for (const exit of [undefined, 0, 1]) {
      const [before, after] = [await of(model, exit), await of(turned, exit)];
      const largest = before.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      expect(maxDifference(before, after)).toBeLessThan(1e-5 * largest);
    }
    expect(turned.matrices.get('exits.1.head')!.dense()).not.toEqual(
      model.matrices.get('exits.1.head')!.dense(),
    );
  });
});

describe('layers that go', () => {
  it('take their exits along; those of the others are renumbered, and behind the last stands none', async () => {
    const model = withNorm(addExit(withNorm(addExit(await open('llama'), 0), 0), 1), 1);
    const named = ({ matrices, vectors }: Model) =>
      [...matrices.keys(), ...vectors.keys()].filter((name) => name.startsWith('exits.'));

    const behind = keepLayers(model, [1, 2]);
    expect(behind.config.exits).toEqual([0]);
    expect(behind.config.json.early_exit_layers).toEqual([0]);
    expect(named(behind)).toEqual(['exits.0.head', 'exits.0.norm.weight']);
    expect(behind.vectors.get('exits.0.norm.weight')).toBe(model.vectors.get('exits.1.norm.weight'));

    const before = keepLayers(model, [0, 1]);
    expect(before.config.exits).toEqual([0]);
    expect(await of(before, 0)).toEqual(await of(model, 0));

    const turned = keepLayers(model, [1, 0, 2]);
    expect(turned.config.exits).toEqual([0, 1]);
    expect(turned.vectors.get('exits.1.norm.weight')).toBe(model.vectors.get('exits.0.norm.weight'));

    const alone = keepLayers(model, [1]);
    expect([alone.config.exits, named(alone)]).toEqual([undefined, []]);
    expect(alone.config.json).not.toHaveProperty('early_exit_layers');
  });
});

describe('a checkpoint with exits', () => {
  it('is read with its exits, whose matrix is the last head where it stores none', async () => {
    const plain = await open('llama');
    const model = withNorm(addExit(plain, 1, { ...plain.matrices.get('lm_head')! }), 1);
    const own = reload(model);
    expect(own.config.exits).toEqual([1]);
    expect(own.matrices.get('exits.1.head')).not.toBe(own.matrices.get('lm_head'));
    const shared = reload(model, tensorsOf(model, 'exits.1.head.weight'));
    expect(shared.matrices.get('exits.1.head')).toBe(shared.matrices.get('lm_head'));
    for (const read of [own, shared]) expect(await of(read, 1)).toEqual(await of(model, 1));
    const tied = tinyLlama({ tied: true });
    const again = reload(addExit(tied, 0), tensorsOf(addExit(tied, 0), 'exits.0.head.weight'));
    expect(again.matrices.get('exits.0.head')).toBe(again.matrices.get('model.embed_tokens'));
  });

  it('is refused without a norm, with a matrix of another shape, and where config.json does not tell of exits', async () => {
    const plain = await open('llama');
    const model = addExit(plain, 1, { ...plain.matrices.get('lm_head')! });
    expect(() => reload(model, tensorsOf(model, 'exits.1.norm.weight'))).toThrow(/exits\.1\.norm\.weight/);
    const wrong = tensorsOf(model).set('exits.1.head.weight', stored('float32', [2, 2], new Float32Array(4)));
    expect(() => reload(model, wrong)).toThrow(/exits\.1\.head\.weight/);
    expect(() => reload(plain, tensorsOf(model))).toThrow(/exits\.1\.norm\.weight/);
  });

  it.each([
    ['llama', 'yes'],
    ['llama', 1],
    ['llama', [2]],
    ['llama', [-1]],
    ['llama', [0.5]],
    ['llama', ['0']],
    ['llama', [1, 0]],
    ['llama', [1, 1]],
    ['llama', { 0: 1 }],
    ['llama', [null]],
    ['gpt2', [2]],
    ['gpt2', [1e300]],
  ])('is refused: %s with "early_exit_layers": %j, by its key', async (name, value) => {
    const { architecture, config } = await open(name);
    const settings = { ...config.json, early_exit_layers: value };
    expect(() => architecture.configure(settings)).toThrow('"early_exit_layers"');
  });

  it.each([undefined, null, []])('has none with "early_exit_layers": %j', async (value) => {
    const { architecture, config } = await open('llama');
    expect(architecture.configure({ ...config.json, early_exit_layers: value }).exits).toBeUndefined();
  });
});

it('no exit stands behind the last layer, and none twice', () => {
  const model = addExit(tinyLlama({ tied: false }), 0);
  for (const layer of [0, 1, 2, -1]) expect(() => addExit(model, layer)).toThrow('"early_exit_layers"');
});

it.each(Object.keys(formats) as (keyof typeof formats)[])(
  '%s holds it, or says why it does not',
  (format) => {
    const check = () => checkHeld(format, addExit(tinyLlama({ tied: false }), 0), format);
    if (format === 'onnx') expect(check).not.toThrow();
    else expect(check).toThrow(/heads behind layers before the last[^]*builds one head[^]*--format onnx/);
  },
);

it('norms of exits are trained by who names norms', () => {
  const { parameters } = trainable(addExit(tinyLlama({ tied: true }), 0), ({ kind }) => kind === 'norms');
  expect([...parameters.keys()].slice(-2)).toEqual(['model.norm.weight', 'exits.0.norm.weight']);
});
