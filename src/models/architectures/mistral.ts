/** Mistral (Jiang et al. 2023): Llama with a sliding window in every layer. */

import { decoder } from '../decoder/decoder.ts';
import { evenWindows } from '../windows.ts';

export const mistral = decoder({
  modelType: 'mistral',
  className: 'Mistral',
  absent: { num_key_value_heads: 8, sliding_window: 4096, max_position_embeddings: 131072 },
  windows: evenWindows,
});
