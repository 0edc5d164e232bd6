/** Llama 1 to 3 and the many that share its form (Touvron et al. 2023; Grattafiori et al. 2024). */

import { decoder } from '../decoder/decoder.ts';
import { flag } from '../settings.ts';

export const llama = decoder({
  modelType: 'llama',
  className: 'Llama',
  biases: (json) => {
    const attention = flag(json, 'attention_bias', false);
    return { queryKeyValue: attention, output: attention, feedForward: flag(json, 'mlp_bias', false) };
  },
});
