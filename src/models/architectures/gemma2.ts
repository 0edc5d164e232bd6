/** Gemma 2 (Gemma Team 2024, arXiv:2408.00118): norms behind attention and feed-forward, too; capped scores and logits. */

import type { Caps, DecoderTraits, Factors } from '../decoder/decoder.ts';
import { decoder } from '../decoder/decoder.ts';
import type { Json } from '../settings.ts';
import { positive } from '../settings.ts';
import { typedWindows } from '../windows.ts';
import { gemmaTraits } from './gemma.ts';

/** Of Gemma 2 and 3. */
export const gemmaNorms: NonNullable<DecoderTraits['names']> = {
  attentionNormAfter: 'post_attention_layernorm',
  feedForwardNorm: 'pre_feedforward_layernorm',
  feedForwardNormAfter: 'post_feedforward_layernorm',
};

export const gemmaFactors = (json: Json): Factors => ({
  ...gemmaTraits.factors(json),
  scores: 1 / Math.sqrt(positive(json, 'query_pre_attn_scalar', 256)),
});

export function gemmaCaps(json: Json): Caps {
  const cap = (key: string) =>
    json[key] === null || json[key] === undefined ? undefined : positive(json, key);
  return { scores: cap('attn_logit_softcapping'), logits: cap('final_logit_softcapping') };
}

export const gemma2 = decoder({
  ...gemmaTraits,
  modelType: 'gemma2',
  className: 'Gemma2',
  absent: {
    head_dim: 256,
    max_position_embeddings: 8192,
    sliding_window: 4096,
    tie_word_embeddings: true,
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
  },
  names: gemmaNorms,
  factors: gemmaFactors,
  caps: gemmaCaps,
  // Every second layer sees all.
  windows: (json, layers) => typedWindows(json, layers, (layer) => layer % 2 === 1),
});
