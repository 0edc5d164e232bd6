/** Gemma (Gemma Team 2024, arXiv:2403.08295): embeddings times the root of the width, norms that count from one, GeGLU. */

import { attentionBiases } from '../decoder/biases.ts';
import type { Activation, DecoderTraits } from '../decoder/decoder.ts';
import { decoder } from '../decoder/decoder.ts';
import type { Json } from '../settings.ts';
import { count, word, wrongSetting } from '../settings.ts';

/** What all Gemmas share. */
export const gemmaTraits = {
  norm: { kind: 'rms', offset: 1 },
  biases: attentionBiases,
  activation: gelu,
  factors: (json) => ({ embedding: Math.sqrt(count(json, 'hidden_size')) }),
  refuse(json) {
    const all = json.use_bidirectional_attention ?? false;
    if (all !== false)
      throw wrongSetting('use_bidirectional_attention', 'false: attention to what came before', all);
  },
} as const satisfies Partial<DecoderTraits>;

/** Early files say "gelu" under `hidden_act` and mean the tanh form; under `hidden_activation` it would be the exact one. */
function gelu(json: Json): Activation {
  const tanh = ['gelu_pytorch_tanh', 'gelu_new', 'gelu_fast'] as const;
  const older = json.hidden_activation === undefined || json.hidden_activation === null;
  if (older) word(json, 'hidden_act', [...tanh, 'gelu'], 'gelu_pytorch_tanh');
  else word(json, 'hidden_activation', tanh);
  return 'gelu tanh';
}

export const gemma = decoder({
  ...gemmaTraits,
  modelType: 'gemma',
  className: 'Gemma',
  absent: { head_dim: 256, max_position_embeddings: 8192, tie_word_embeddings: true },
});
