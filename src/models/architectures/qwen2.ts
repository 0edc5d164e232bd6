/** Qwen 2 and 2.5 (Yang et al. 2024): biases on query, key and value. */

import { decoder } from '../decoder/decoder.ts';
import { upperWindows } from '../windows.ts';

export const qwen2 = decoder({
  modelType: 'qwen2',
  className: 'Qwen2',
  absent: { num_key_value_heads: 32, max_position_embeddings: 32768 },
  biases: () => ({ queryKeyValue: true, output: false, feedForward: false }),
  windows: upperWindows,
});
