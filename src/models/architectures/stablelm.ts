/** StableLM (Bellagente et al. 2024, arXiv:2402.17834): LayerNorm, heads rotated in part. */

import { decoder } from '../decoder/decoder.ts';
import { readRope } from '../rope.ts';
import type { Json } from '../settings.ts';
import { flag, wrongSetting } from '../settings.ts';

/** Attention and feed-forward are then fed by one norm. */
const isParallel = (json: Json) => flag(json, 'use_parallel_residual', false);

export const stablelm = decoder({
  modelType: 'stablelm',
  className: 'StableLm',
  absent: {
    num_key_value_heads: 32,
    max_position_embeddings: 4096,
    layer_norm_eps: 1e-5,
    partial_rotary_factor: 0.25,
  },
  keys: { epsilon: 'layer_norm_eps' },
  norm: { kind: 'layer', bias: true },
  norms: (json) => ({
    attentionNorm: 'input_layernorm',
    feedForwardNorm: isParallel(json) ? undefined : 'post_attention_layernorm',
  }),
  parallel: isParallel,
  biases: (json) => ({
    queryKeyValue: flag(json, 'use_qkv_bias', false),
    output: false,
    feedForward: false,
  }),
  ropes: (json, layers) => new Array(layers).fill(readRope(json, { partial: true })),
  refuse(json) {
    if (flag(json, 'qk_layernorm', false)) throw wrongSetting('qk_layernorm', 'false', true);
  },
});
