/** Qwen 3 (Yang et al. 2025): every head of query and key is normed before it is rotated. */

import { attentionBiases } from '../decoder/biases.ts';
import { decoder } from '../decoder/decoder.ts';
import { upperWindows } from '../windows.ts';

export const qwen3 = decoder({
  modelType: 'qwen3',
  className: 'Qwen3',
  absent: { num_key_value_heads: 32, head_dim: 128, max_position_embeddings: 32768 },
  biases: attentionBiases,
  queryKeyNorm: 'head',
  windows: upperWindows,
});
