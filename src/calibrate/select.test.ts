import { describe, expect, it } from 'vitest';
import { tinyLlama } from '../../test/models/tiny.ts';
import { selector } from './select.ts';
import type { Importance } from '../contract/gradients.ts';
import type { Compressor } from '../contract/method.ts';
import { everyLayer, predictionGradients } from './importance.ts';
import { rankBySensitivity } from './sensitivity.ts';
import { findMethod } from '../methods/index.ts';
import { addExit } from '../models/exits.ts';
import type { Model } from '../models/model.ts';
import { random } from '../base/random.ts';
import { targetsOf } from './targets.ts';

const model = tinyLlama({ tied: false });
const names = (expression: string, ranking?: readonly string[]) =>
  targetsOf(model)
    .filter(selector(expression, model, ranking))
    .map(({ name }) => name.replace('model.layers.', '').replace('model.', ''));

describe('a target', () => {
  it('is a place: the blocks, the embedding with the head, the head alone', () => {
    expect(names('blocks')).toHaveLength(14);
    expect(names('embeddings')).toEqual(['embed_tokens', 'lm_head']);
    expect(names('head')).toEqual(['lm_head']);
  });

  it('means heads behind layers before the last with the head, where these have matrices of their own', () => {
    const meant = (model: Model, expression: string) =>
      targetsOf(model)
        .filter(selector(expression, model))
        .map(({ name }) => name);
    const [shared, own] = [addExit(model, 0), addExit(model, 0, { ...model.matrices.get('lm_head')! })];
    expect(meant(shared, 'head')).toEqual(['lm_head']);
    expect(meant(own, 'head')).toEqual(['lm_head', 'exits.0.head']);
    expect(meant(own, 'embeddings')).toEqual(['model.embed_tokens', 'lm_head', 'exits.0.head']);
    expect(meant(own, 'exits.*')).toEqual(['exits.0.head']);
    expect(meant(own, 'blocks')).toHaveLength(14);
  });

  it('is a part of every block', () => {
    expect(names('attention').slice(0, 4)).toEqual([
      '0.self_attn.q_proj',
      '0.self_attn.k_proj',
      '0.self_attn.v_proj',
      '0.self_attn.o_proj',
    ]);
    expect(names('feed-forward').slice(3)).toEqual(['1.mlp.gate_proj', '1.mlp.up_proj', '1.mlp.down_proj']);
  });

  it('is a position: the first blocks, the last, a range', () => {
    expect(names('first').every((name) => name.startsWith('0.'))).toBe(true);
    expect(names('last')).toHaveLength(7);
    expect(names('last:2')).toHaveLength(14);
    expect(names('layers:1')).toEqual(names('last'));
    expect(names('layers:0-1')).toEqual(names('blocks'));
  });

  it('is a name, its end, or one with *', () => {
    expect(names('model.layers.1.mlp.up_proj')).toEqual(['1.mlp.up_proj']);
    expect(names('down_proj')).toEqual(['0.mlp.down_proj', '1.mlp.down_proj']);
    expect(names('*.self_attn.[qk]_proj')).toHaveLength(4);
  });

  it('is a share of the weights, the most sensitive first, by a ranking', () => {
    const ranking = [
      'model.layers.1.mlp.up_proj',
      'model.layers.0.mlp.up_proj',
      'model.layers.0.mlp.down_proj',
    ];
    expect(names('sensitive:67%', ranking)).toEqual(['0.mlp.up_proj', '1.mlp.up_proj']);
    expect(names('sensitive:1%', ranking)).toEqual(['1.mlp.up_proj']);
    expect(names('sensitive:10%')).toEqual(names('blocks'));
  });

  it.each(['down', 'layers:9', 'sensitive:200%', 'sensitive:x', 'first:0x', 'layers:', '*.nothing'])(
    'that means nothing is refused: %s',
    (expression) => {
      expect(() => names(expression)).toThrow(/target "/);
    },
  );
});

it('ranks matrices by what plain rounding costs them, the most sensitive first', async () => {
  const source = random(1);
  const sequences = [Int32Array.from({ length: 16 }, () => source.integer(10))];
  const rtn = findMethod('rtn') as Compressor;
  const coarse = 'model.layers.1.mlp.down_proj';
  // The one that has fewer bits than the others loses most.
  const ranking = await rankBySensitivity(model, sequences, {
    threads: 1,
    assign: ({ name }) => ({
      method: rtn,
      options: rtn.options.parse({ group: 16, bits: name === coarse ? 2 : 4 }),
    }),
  });
  expect(ranking).toHaveLength(14);
  expect(ranking[0]).toBe(coarse);
});

it('ranks by what a layer costs the predictions, where it is known what hangs on it', async () => {
  const sequences = [Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6)];
  const rtn = findMethod('rtn') as Compressor;
  const assign = () => ({ method: rtn, options: rtn.options.parse({ group: 16 }) });
  const asked = { names: everyLayer(model), metrics: false };
  const { importance } = await predictionGradients(model, sequences, asked, { seed: 1 });
  const of = (each: Importance) => rankBySensitivity(model, sequences, { assign, importance: each });
  const ranking = await of(importance);
  expect(ranking).toHaveLength(14);
  const last = ranking.at(-1)!;
  const { weights, mean } = importance.get(last)!;
  const other = new Map(importance).set(last, { weights, mean: 1e6 * mean });
  expect((await of(other))[0]).toBe(last);
});
