/** GPT-NeoX and Pythia (Biderman et al. 2023, arXiv:2304.01373): attention beside the feed-forward, heads rotated in part. */

import { activationAt } from '../decoder/activation.ts';
import { decoder } from '../decoder/decoder.ts';
import { joinedByGroups } from '../decoder/joined.ts';
import { readRope } from '../rope.ts';
import { flag } from '../settings.ts';

const attention = joinedByGroups('attention');

export const gptNeox = decoder({
  modelType: 'gpt_neox',
  className: 'GPTNeoX',
  absent: { layer_norm_eps: 1e-5, rotary_pct: 0.25, rotary_emb_base: 10000 },
  keys: { epsilon: 'layer_norm_eps', headSize: undefined, keyValueHeads: undefined },
  names: {
    table: 'gpt_neox.embed_in',
    layers: 'gpt_neox.layers',
    ...attention.names,
    finalNorm: 'gpt_neox.final_layer_norm',
    head: 'embed_out',
  },
  aliases: { embed_out: 'lm_head' },
  joined: attention.joined,
  norm: { kind: 'layer', bias: true },
  parallel: (json) => flag(json, 'use_parallel_residual', true),
  gated: false,
  activation: activationAt('hidden_act', 'gelu'),
  biases: (json) => {
    const biased = flag(json, 'attention_bias', true);
    return { queryKeyValue: biased, output: biased, feedForward: true };
  },
  ropes(json, layers) {
    const older = { rope_theta: json.rotary_emb_base, partial_rotary_factor: json.rotary_pct };
    return new Array(layers).fill(readRope({ ...json, ...older }, { partial: true }));
  },
});
