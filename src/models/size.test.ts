import { describe, expect, it } from 'vitest';
import { tinyLlama } from '../../test/models/tiny.ts';
import { floatToHalf } from '../base/half.ts';
import { stored } from '../base/tensor.ts';
import { dense } from '../encodings/dense.ts';
import { bitsPerWeight, bytes, linearLayers, multiplyAdds, parameters } from './size.ts';

// Vocabulary 10, hidden 8, intermediate 12, 2 layers with 2 heads of 4 and 1 key-value head.
const projections = 8 * 8 + 2 * 4 * 8 + 8 * 8;
const feedForward = 3 * 8 * 12;
const layers = 2 * (projections + feedForward);

describe('sizes of a model', () => {
  it('count an untied head beside the embedding', () => {
    const model = tinyLlama({ tied: false });
    expect(parameters(model)).toBe(layers + 2 * 10 * 8 + 5 * 8);
    expect(bytes(model)).toBe(4 * parameters(model));
    expect(bitsPerWeight(model)).toBe(32);
    expect(multiplyAdds(model)).toBe(layers + 10 * 8);
  });

  it('count a tied head once in bytes, and as a product', () => {
    const model = tinyLlama({ tied: true });
    expect(parameters(model)).toBe(layers + 10 * 8 + 5 * 8);
    expect(multiplyAdds(model)).toBe(layers + 10 * 8);
  });

  it('follow the encodings', () => {
    const model = tinyLlama({ tied: true });
    const half = dense(stored('float16', [10, 8], floatToHalf(new Float32Array(80))));
    const smaller = { ...model, matrices: new Map([...model.matrices, ['model.embed_tokens', half]]) };
    expect(bytes(model) - bytes(smaller)).toBe(2 * 80);
    expect(parameters(smaller)).toBe(parameters(model));
  });

  it('list linear layers in the order of computation', () => {
    const list = linearLayers(tinyLlama({ tied: false }));
    expect(list).toHaveLength(15);
    expect(list.slice(0, 7).map(({ name }) => name.slice('model.layers.0.'.length))).toEqual([
      'self_attn.q_proj',
      'self_attn.k_proj',
      'self_attn.v_proj',
      'self_attn.o_proj',
      'mlp.gate_proj',
      'mlp.up_proj',
      'mlp.down_proj',
    ]);
    expect(list.map(({ layer }) => layer)).toEqual([
      ...new Array(7).fill(0),
      ...new Array(7).fill(1),
      undefined,
    ]);
    expect(list[14].name).toBe('lm_head');
  });
});
