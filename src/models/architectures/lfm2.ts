/** LFM2 (Liquid AI 2025, arXiv:2511.23404): gated short convolutions in the place of attention in most layers, heads normed. */

import { decoder } from '../decoder/decoder.ts';
import type { Mixer } from '../decoder/decoder.ts';
import type { LayerPlan } from '../model.ts';
import type { Json } from '../settings.ts';
import { count, flag, positive, wrongSetting } from '../settings.ts';

export const lfm2 = decoder({
  modelType: 'lfm2',
  className: 'Lfm2',
  absent: {
    num_key_value_heads: 8,
    max_position_embeddings: 128000,
    norm_eps: 1e-5,
    rope_theta: 1e6,
    conv_L_cache: 3,
    tie_word_embeddings: true,
  },
  keys: { epsilon: 'norm_eps' },
  names: {
    attentionNorm: 'operator_norm',
    feedForwardNorm: 'ffn_norm',
    output: 'self_attn.out_proj',
    queryNorm: 'self_attn.q_layernorm',
    keyNorm: 'self_attn.k_layernorm',
    feedForward: 'feed_forward',
    gate: 'w1',
    up: 'w3',
    down: 'w2',
    finalNorm: 'model.embedding_norm',
  },
  queryKeyNorm: 'head',
  biases: (json) => ({
    queryKeyValue: false,
    output: false,
    feedForward: false,
    convolution: flag(json, 'conv_bias', false),
  }),
  mixers: {
    convolution: { input: 'conv.in_proj', kernel: 'conv.conv', output: 'conv.out_proj' },
    read: (json, layers) => typesOf(json, layers).map((type) => (type === 'conv' ? mixer(json) : undefined)),
    settings: (layers) => ({ ...layerTypes(layers), ...widthOf(layers) }),
  },
  read,
});

const mixer = (json: Json): Mixer => ({
  convolution: { width: count(json, 'conv_L_cache', undefined, 256) },
});

/** Of all layers one. @throws LapidaryError where they differ */
function widthOf(layers: readonly LayerPlan[]): Json {
  const widths = new Set(layers.flatMap(({ convolution }) => convolution?.width ?? []));
  if (widths.size > 1) throw wrongSetting('conv_L_cache', 'convolutions of one width', [...widths]);
  return Object.fromEntries([...widths].map((width) => ['conv_L_cache', width]));
}

type LayerType = 'conv' | 'full_attention';

/** `layer_types`, or from files before it the indices of layers with attention. */
function typesOf(json: Json, layers: number): readonly LayerType[] {
  const types = json.layer_types ?? undefined;
  if (types !== undefined) {
    const known = (type: unknown) => type === 'conv' || type === 'full_attention';
    if (Array.isArray(types) && types.length === layers && types.every(known)) return types;
    throw wrongSetting('layer_types', `a list of ${layers}, conv or full_attention each`, types);
  }
  const attending = json.full_attn_idxs ?? Array.from({ length: layers }, (_, layer) => layer);
  if (!Array.isArray(attending)) throw wrongSetting('full_attn_idxs', 'a list of layers', attending);
  return Array.from({ length: layers }, (_, layer) =>
    attending.includes(layer) ? 'full_attention' : 'conv',
  );
}

/** In the words of all versions; transformers.js reads the types. */
const layerTypes = (layers: readonly LayerPlan[]): Json => ({
  layer_types: layers.map(({ convolution }) => (convolution ? 'conv' : 'full_attention')),
  full_attn_idxs: layers.flatMap(({ convolution }, layer) => (convolution ? [] : [layer])),
});

/**
 * Files have names of their own for the width of feed-forwards and a tied head, and the width may be a number that the true
 * one is made of: two thirds of it by a factor, up to a multiple.
 */
function read({ block_ff_dim: width, tie_embedding: tied, ...json }: Json): Json {
  const own = {
    ...json,
    ...(width === undefined ? {} : { intermediate_size: width }),
    ...(tied === undefined ? {} : { tie_word_embeddings: tied }),
  };
  if (!flag(own, 'block_auto_adjust_ff_dim', true)) return own;
  const thirds = Math.floor((2 * count(own, 'intermediate_size')) / 3);
  return { ...own, intermediate_size: adjusted(own, thirds), block_auto_adjust_ff_dim: false };
}

function adjusted(json: Json, width: number): number {
  if (json.block_ffn_dim_multiplier === null) return width;
  const multiple = count(json, 'block_multiple_of', 256);
  return multiple * Math.ceil(Math.floor(positive(json, 'block_ffn_dim_multiplier', 1) * width) / multiple);
}
