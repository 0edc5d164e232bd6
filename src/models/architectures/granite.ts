/** Granite 3 and 4 (IBM 2024): Llama with factors of embeddings, scores, what layers add, and logits. */

import { llamaBiases } from '../decoder/biases.ts';
import { decoder } from '../decoder/decoder.ts';
import { positive } from '../settings.ts';

export const granite = decoder({
  modelType: 'granite',
  className: 'Granite',
  biases: llamaBiases,
  factors: (json) => ({
    embedding: positive(json, 'embedding_multiplier', 1),
    scores: positive(json, 'attention_multiplier', 1),
    residual: positive(json, 'residual_multiplier', 1),
    logits: 1 / positive(json, 'logits_scaling', 1),
  }),
});
