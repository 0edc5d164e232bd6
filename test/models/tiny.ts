/** A random Llama small enough to be understood, for unit tests. */

import { random } from '../../src/base/random.ts';
import type { Stored } from '../../src/base/tensor.ts';
import { stored } from '../../src/base/tensor.ts';
import { loadModel } from '../../src/models/index.ts';
import type { Model } from '../../src/models/model.ts';

/** Vocabulary 10, hidden 8, intermediate 12, two layers with two heads of 4 and one key-value head, context 16. */
export function tinyLlama({ tied }: { readonly tied: boolean }): Model {
  const json = {
    model_type: 'llama',
    vocab_size: 10,
    hidden_size: 8,
    intermediate_size: 12,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    max_position_embeddings: 16,
    tie_word_embeddings: tied,
  };
  const tensors = new Map<string, Stored>();
  const add = (name: string, ...shape: number[]) => {
    const { normal } = random(1).fork(name);
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 0.5 * normal());
    tensors.set(`${name}.weight`, stored('float32', shape, values));
  };
  add('model.embed_tokens', 10, 8);
  for (const layer of ['model.layers.0', 'model.layers.1']) {
    add(`${layer}.input_layernorm`, 8);
    add(`${layer}.self_attn.q_proj`, 8, 8);
    add(`${layer}.self_attn.k_proj`, 4, 8);
    add(`${layer}.self_attn.v_proj`, 4, 8);
    add(`${layer}.self_attn.o_proj`, 8, 8);
    add(`${layer}.post_attention_layernorm`, 8);
    add(`${layer}.mlp.gate_proj`, 12, 8);
    add(`${layer}.mlp.up_proj`, 12, 8);
    add(`${layer}.mlp.down_proj`, 8, 12);
  }
  add('model.norm', 8);
  if (!tied) add('lm_head', 10, 8);
  return loadModel({ source: 'tiny', json, tensors, files: new Map() });
}
