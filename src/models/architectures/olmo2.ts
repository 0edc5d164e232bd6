/** OLMo 2 (OLMo Team 2025, arXiv:2501.00656): norms behind attention and feed-forward alone; queries and keys are normed whole. */

import { attentionBiases } from '../decoder/biases.ts';
import type { DecoderTraits } from '../decoder/decoder.ts';
import { decoder } from '../decoder/decoder.ts';

/** Of OLMo 2 and 3. */
export const olmoTraits = {
  absent: { rms_norm_eps: 1e-5 },
  names: {
    attentionNorm: undefined,
    attentionNormAfter: 'post_attention_layernorm',
    feedForwardNorm: undefined,
    feedForwardNormAfter: 'post_feedforward_layernorm',
  },
  queryKeyNorm: 'all',
  biases: attentionBiases,
} as const satisfies Partial<DecoderTraits>;

export const olmo2 = decoder({ ...olmoTraits, modelType: 'olmo2', className: 'Olmo2' });
