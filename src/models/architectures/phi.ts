/** Phi 1, 1.5 and 2 (Gunasekar et al. 2023, arXiv:2306.11644): attention beside a feed-forward without a gate, biases everywhere. */

import { activationAt } from '../decoder/activation.ts';
import { decoder } from '../decoder/decoder.ts';
import { readRope } from '../rope.ts';
import { flag, wrongSetting } from '../settings.ts';

export const phi = decoder({
  modelType: 'phi',
  className: 'Phi',
  absent: { layer_norm_eps: 1e-5, partial_rotary_factor: 0.5 },
  keys: { epsilon: 'layer_norm_eps' },
  names: {
    output: 'self_attn.dense',
    feedForwardNorm: undefined,
    up: 'fc1',
    down: 'fc2',
    finalNorm: 'model.final_layernorm',
  },
  norm: { kind: 'layer', bias: true },
  parallel: () => true,
  gated: false,
  activation: activationAt('hidden_act', 'gelu_new'),
  biases: () => ({ queryKeyValue: true, output: true, feedForward: true, head: true }),
  ropes: (json, layers) => new Array(layers).fill(readRope(json, { partial: true })),
  refuse(json) {
    if (flag(json, 'qk_layernorm', false)) throw wrongSetting('qk_layernorm', 'false', true);
  },
});
