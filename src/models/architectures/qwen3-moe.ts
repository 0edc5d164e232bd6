/** Qwen 3 as a mixture of experts (Yang et al. 2025): layers of Qwen 3 whose feed-forwards are many small ones. */

import { attentionBiases } from '../decoder/biases.ts';
import type { Mixtures } from '../decoder/decoder.ts';
import { decoder } from '../decoder/decoder.ts';
import { expertSettings, readExperts } from '../decoder/mixtures.ts';
import type { LayerPlan } from '../model.ts';
import type { Json } from '../settings.ts';
import { count, flag, wrongSetting } from '../settings.ts';

export const qwen3Moe = decoder({
  modelType: 'qwen3_moe',
  className: 'Qwen3Moe',
  absent: {
    num_key_value_heads: 4,
    max_position_embeddings: 32768,
    num_experts_per_tok: 8,
    moe_intermediate_size: 768,
  },
  biases: attentionBiases,
  queryKeyNorm: 'head',
  windows: (json, layers) => {
    const window = flag(json, 'use_sliding_window', false) && json.sliding_window !== null;
    return new Array<number | undefined>(layers).fill(
      window ? count(json, 'sliding_window', 4096) : undefined,
    );
  },
  mixtures: { router: 'gate', read: mixtures, settings },
});

/** Every `decoder_sparse_step`-th layer is a mixture, but for those in `mlp_only_layers`. */
function mixtures(json: Json, layers: number): ReturnType<Mixtures['read']> {
  const step = count(json, 'decoder_sparse_step', 1);
  const single = singleLayers(json);
  const normalized = flag(json, 'norm_topk_prob', false);
  const all = readExperts(json, layers, { count: 128, width: 'moe_intermediate_size', normalized });
  return all.map((mixture, layer) =>
    single.includes(layer) || (layer + 1) % step !== 0 ? undefined : mixture,
  );
}

function singleLayers({ mlp_only_layers: single }: Json): readonly number[] {
  if (single === undefined || single === null) return [];
  if (Array.isArray(single) && single.every((layer) => Number.isSafeInteger(layer)))
    return single as number[];
  throw wrongSetting('mlp_only_layers', 'a list of layers', single);
}

function settings(layers: readonly LayerPlan[]): Json {
  return {
    decoder_sparse_step: 1,
    mlp_only_layers: [...layers.keys()].filter((layer) => !layers[layer].experts),
    ...expertSettings(layers, 'moe_intermediate_size'),
  };
}
