/** StarCoder 2 (Lozhkov et al. 2024, arXiv:2402.19173): LayerNorm, biases, a feed-forward without a gate. */

import { decoder } from '../decoder/decoder.ts';
import { flag, word } from '../settings.ts';
import { evenWindows } from '../windows.ts';

export const starcoder2 = decoder({
  modelType: 'starcoder2',
  className: 'Starcoder2',
  absent: {
    num_key_value_heads: 2,
    max_position_embeddings: 4096,
    norm_epsilon: 1e-5,
    tie_word_embeddings: true,
  },
  keys: { epsilon: 'norm_epsilon' },
  names: { up: 'c_fc', down: 'c_proj' },
  norm: { kind: 'layer', bias: true },
  gated: false,
  activation(json) {
    word(json, 'hidden_act', ['gelu_pytorch_tanh', 'gelu_new'], 'gelu_pytorch_tanh');
    return 'gelu tanh';
  },
  biases: (json) => {
    const all = flag(json, 'use_bias', true);
    return { queryKeyValue: all, output: all, feedForward: all };
  },
  windows: evenWindows,
});
