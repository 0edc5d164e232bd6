/** Mixtral (Jiang et al. 2024, arXiv:2401.04088): Mistral with a mixture in every layer. */

import { decoder } from '../decoder/decoder.ts';
import { expertSettings, readExperts } from '../decoder/mixtures.ts';
import { readRope } from '../rope.ts';
import { evenWindows } from '../windows.ts';

export const mixtral = decoder({
  modelType: 'mixtral',
  className: 'Mixtral',
  absent: {
    num_key_value_heads: 8,
    max_position_embeddings: 131072,
    rms_norm_eps: 1e-5,
    num_experts_per_tok: 2,
  },
  names: { feedForward: 'block_sparse_moe', gate: 'w1', up: 'w3', down: 'w2' },
  ropes: (json, layers) => new Array(layers).fill(readRope({ rope_theta: 1e6, ...json })),
  windows: evenWindows,
  mixtures: {
    router: 'gate',
    read: (json, layers) =>
      readExperts(json, layers, { count: 8, width: 'intermediate_size', normalized: true }),
    settings: (layers) => expertSettings(layers, 'intermediate_size'),
  },
});
