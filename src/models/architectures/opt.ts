/** OPT (Zhang et al. 2022, arXiv:2205.01068): learned positions behind two rows that nothing uses, ReLU, biases. */

import { activationAt } from '../decoder/activation.ts';
import { decoder } from '../decoder/decoder.ts';
import type { Json } from '../settings.ts';
import { count, flag, wrongSetting } from '../settings.ts';

export const opt = decoder({
  modelType: 'opt',
  className: 'OPT',
  absent: { layer_norm_eps: 1e-5, tie_word_embeddings: true },
  keys: { intermediate: 'ffn_dim', epsilon: 'layer_norm_eps', headSize: undefined, keyValueHeads: undefined },
  names: {
    table: 'model.decoder.embed_tokens',
    layers: 'model.decoder.layers',
    attentionNorm: 'self_attn_layer_norm',
    feedForwardNorm: 'final_layer_norm',
    output: 'self_attn.out_proj',
    feedForward: undefined,
    up: 'fc1',
    down: 'fc2',
    finalNorm: 'model.decoder.final_layer_norm',
  },
  positions: { table: 'model.decoder.embed_positions', offset: 2 },
  ropes: (_, layers) => new Array(layers).fill(undefined),
  norm: { kind: 'layer', bias: true },
  gated: false,
  activation: activationAt('activation_function', 'relu'),
  biases: (json) => {
    const all = flag(json, 'enable_bias', true);
    return { queryKeyValue: all, output: all, feedForward: all };
  },
  refuse,
});

function refuse(json: Json): void {
  const honoured = { do_layer_norm_before: true, _remove_final_layer_norm: false };
  for (const [key, value] of Object.entries({ ...honoured, layer_norm_elementwise_affine: true }))
    if (flag(json, key, value) !== value) throw wrongSetting(key, String(value), json[key]);
  const hidden = count(json, 'hidden_size');
  const table = count(json, 'word_embed_proj_dim', hidden);
  if (table !== hidden) throw wrongSetting('word_embed_proj_dim', `hidden_size, ${hidden}`, table);
  // No key of OPT's: transformers takes nothing else.
  if (json.layer_norm_eps !== 1e-5) throw wrongSetting('layer_norm_eps', '1e-5', json.layer_norm_eps);
}
