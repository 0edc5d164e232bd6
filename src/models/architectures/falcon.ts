/** Falcon (Almazrouei et al. 2023, arXiv:2311.16867): one key and value for all heads or for groups, ALiBi in its first models. */

import { activationAt } from '../decoder/activation.ts';
import { alibiSlopes } from '../alibi.ts';
import { decoder } from '../decoder/decoder.ts';
import { joinedByGroups } from '../decoder/joined.ts';
import { readRope } from '../rope.ts';
import type { Json } from '../settings.ts';
import { count, flag, renamed, wrongSetting } from '../settings.ts';

const attention = joinedByGroups('self_attention');

const isNew = (json: Json) => flag(json, 'new_decoder_architecture', false);
const isParallel = (json: Json) => flag(json, 'parallel_attn', true);
const hasAlibi = (json: Json) => flag(json, 'alibi', false);
const normsOf = (json: Json) => count(json, 'num_ln_in_parallel_attn', isNew(json) ? 2 : 1);

export const falcon = decoder({
  modelType: 'falcon',
  className: 'Falcon',
  absent: { layer_norm_epsilon: 1e-5, tie_word_embeddings: true },
  read(json) {
    const own = renamed(json, { n_embed: 'hidden_size' });
    const ffn_hidden_size = own.ffn_hidden_size ?? 4 * count(own, 'hidden_size');
    return { ...own, ffn_hidden_size, ...headsIn(own) };
  },
  keys: {
    keyValueHeads: 'num_kv_heads',
    headSize: undefined,
    intermediate: 'ffn_hidden_size',
    epsilon: 'layer_norm_epsilon',
  },
  names: {
    table: 'transformer.word_embeddings',
    layers: 'transformer.h',
    ...attention.names,
    finalNorm: 'transformer.ln_f',
  },
  norms(json) {
    if (normsOf(json) === 2) return { attentionNorm: 'ln_attn', feedForwardNorm: 'ln_mlp' };
    const own = isParallel(json) ? undefined : 'post_attention_layernorm';
    return { attentionNorm: 'input_layernorm', feedForwardNorm: own };
  },
  joined: attention.joined,
  norm: { kind: 'layer', bias: true },
  parallel: isParallel,
  gated: false,
  activation: activationAt('activation', 'gelu'),
  biases: (json) => {
    const all = flag(json, 'bias', false);
    return { queryKeyValue: all, output: all, feedForward: all };
  },
  ropes: (json, layers) => new Array(layers).fill(hasAlibi(json) ? undefined : readRope(json)),
  alibi: (json, heads, headSize) =>
    hasAlibi(json)
      ? { slopes: alibiSlopes(heads), factor: 1 / Math.sqrt(headSize), rounded: true }
      : undefined,
  refuse,
});

/**
 * Before `new_decoder_architecture` there are as many keys as heads, or one, whatever `num_kv_heads` says. What has one is told as
 * a new one with one group, which is the same: transformers.js takes `multi_query` for a cache of joined keys and values.
 */
function headsIn(json: Json): Json {
  const heads = { num_kv_heads: json.num_kv_heads ?? json.num_attention_heads, multi_query: false };
  if (isNew(json)) return heads;
  const joint = { num_kv_heads: 1, new_decoder_architecture: true, num_ln_in_parallel_attn: normsOf(json) };
  return flag(json, 'multi_query', true)
    ? { ...heads, ...joint }
    : { ...heads, num_kv_heads: json.num_attention_heads };
}

function refuse(json: Json): void {
  if (flag(json, 'apply_residual_connection_post_layernorm', false))
    throw wrongSetting('apply_residual_connection_post_layernorm', 'false', true);
  if (isNew(json) && !isParallel(json))
    throw wrongSetting('parallel_attn', 'true, with "new_decoder_architecture" or "multi_query"', false);
  const norms = normsOf(json);
  if (norms > (isNew(json) ? 2 : 1)) throw wrongSetting('num_ln_in_parallel_attn', '1 or 2', norms);
}
