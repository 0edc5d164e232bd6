/** OLMoE (Muennighoff et al. 2024, arXiv:2409.02060): a mixture in every layer, queries and keys normed whole. */

import { attentionBiases } from '../decoder/biases.ts';
import { decoder } from '../decoder/decoder.ts';
import { expertSettings, readExperts } from '../decoder/mixtures.ts';
import { flag, wrongSetting } from '../settings.ts';

export const olmoe = decoder({
  modelType: 'olmoe',
  className: 'Olmoe',
  absent: { max_position_embeddings: 4096, rms_norm_eps: 1e-5, num_experts_per_tok: 8 },
  queryKeyNorm: 'all',
  biases: attentionBiases,
  mixtures: {
    router: 'gate',
    read: (json, layers) =>
      readExperts(json, layers, {
        count: 64,
        width: 'intermediate_size',
        normalized: flag(json, 'norm_topk_prob', false),
      }),
    settings: (layers) => expertSettings(layers, 'intermediate_size'),
  },
  refuse(json) {
    if (json.clip_qkv !== null && json.clip_qkv !== undefined)
      throw wrongSetting('clip_qkv', 'null', json.clip_qkv);
  },
});
