/**
 * Random weights to start from, by their checkpoint names: normal with the configuration's initializer_range, the two
 * matrices of a block that write to the residual stream divided by sqrt(2 layers) (Radford et al. 2019), norms one.
 */

import { random } from '../../src/base/random.ts';
import type { Stored } from '../../src/base/tensor.ts';
import { stored } from '../../src/base/tensor.ts';

export interface Sizes {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly initializer_range: number;
}

export function initialWeights(sizes: Sizes, seed: number): Map<string, Stored> {
  const { hidden_size: hidden, intermediate_size: inner, num_hidden_layers: layers, head_dim: head } = sizes;
  const source = random(seed).fork('weights');
  const result = new Map<string, Stored>();
  const matrix = (name: string, rows: number, columns: number, deviation = sizes.initializer_range) => {
    const numbers = source.fork(name);
    const values = Float32Array.from({ length: rows * columns }, () => deviation * numbers.normal());
    result.set(`${name}.weight`, stored('float32', [rows, columns], values));
  };
  const ones = (name: string) =>
    result.set(`${name}.weight`, stored('float32', [hidden], new Float32Array(hidden).fill(1)));
  const residual = sizes.initializer_range / Math.sqrt(2 * layers);
  matrix('model.embed_tokens', sizes.vocab_size, hidden);
  for (let layer = 0; layer < layers; layer++) {
    const name = `model.layers.${layer}`;
    ones(`${name}.input_layernorm`);
    matrix(`${name}.self_attn.q_proj`, sizes.num_attention_heads * head, hidden);
    matrix(`${name}.self_attn.k_proj`, sizes.num_key_value_heads * head, hidden);
    matrix(`${name}.self_attn.v_proj`, sizes.num_key_value_heads * head, hidden);
    matrix(`${name}.self_attn.o_proj`, hidden, sizes.num_attention_heads * head, residual);
    ones(`${name}.post_attention_layernorm`);
    matrix(`${name}.mlp.gate_proj`, inner, hidden);
    matrix(`${name}.mlp.up_proj`, inner, hidden);
    matrix(`${name}.mlp.down_proj`, hidden, inner, residual);
  }
  ones('model.norm');
  return result;
}
