/** Llama 1 to 3 and the many that share its form (Touvron et al. 2023; Grattafiori et al. 2024). */

import { llamaBiases } from '../decoder/biases.ts';
import { decoder } from '../decoder/decoder.ts';

export const llama = decoder({
  modelType: 'llama',
  className: 'Llama',
  biases: llamaBiases,
});
