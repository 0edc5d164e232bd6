/** BLOOM (Le Scao et al. 2022, arXiv:2211.05100): ALiBi, a norm behind the embedding. */

import { alibiSlopes } from '../alibi.ts';
import { decoder } from '../decoder/decoder.ts';
import { joinedByGroups } from '../decoder/joined.ts';
import { count, flag, renamed, wrongSetting } from '../settings.ts';

const attention = joinedByGroups('self_attention');

export const bloom = decoder({
  modelType: 'bloom',
  className: 'Bloom',
  absent: { layer_norm_epsilon: 1e-5, tie_word_embeddings: true },
  read(json) {
    const older = { n_embed: 'hidden_size', num_attention_heads: 'n_head', num_hidden_layers: 'n_layer' };
    const own = renamed(json, older);
    return { ...own, n_inner: own.n_inner ?? 4 * count(own, 'hidden_size') };
  },
  keys: {
    layers: 'n_layer',
    heads: 'n_head',
    headSize: undefined,
    keyValueHeads: undefined,
    intermediate: 'n_inner',
    context: 'seq_length',
    epsilon: 'layer_norm_epsilon',
  },
  names: {
    table: 'transformer.word_embeddings',
    tableNorm: 'transformer.word_embeddings_layernorm',
    layers: 'transformer.h',
    ...attention.names,
    finalNorm: 'transformer.ln_f',
  },
  joined: attention.joined,
  norm: { kind: 'layer', bias: true },
  gated: false,
  activation: () => 'gelu tanh',
  biases: () => ({ queryKeyValue: true, output: true, feedForward: true }),
  ropes: (_, layers) => new Array(layers).fill(undefined),
  alibi: (_, heads) => ({ slopes: alibiSlopes(heads) }),
  refuse(json) {
    // With several ranks the latter leaves biases out.
    for (const key of ['apply_residual_connection_post_layernorm', 'slow_but_exact'])
      if (flag(json, key, false)) throw wrongSetting(key, 'false', true);
  },
});
