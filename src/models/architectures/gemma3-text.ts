/** Gemma 3 (Gemma Team 2025, arXiv:2503.19786): heads are normed; five layers with windows to one without, each kind with a rotation of its own. */

import { decoder } from '../decoder/decoder.ts';
import { ropesByWindow } from '../rope.ts';
import type { Json } from '../settings.ts';
import { count, wrongSetting } from '../settings.ts';
import { typedWindows } from '../windows.ts';
import { gemmaTraits } from './gemma.ts';
import { gemmaCaps, gemmaFactors, gemmaNorms } from './gemma2.ts';

export const gemma3Text = decoder({
  ...gemmaTraits,
  modelType: 'gemma3_text',
  className: 'Gemma3',
  absent: {
    head_dim: 256,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    vocab_size: 262208,
    max_position_embeddings: 131072,
    sliding_window: 4096,
    tie_word_embeddings: true,
  },
  names: gemmaNorms,
  queryKeyNorm: 'head',
  factors: gemmaFactors,
  caps: gemmaCaps,
  windows,
  refuse(json) {
    gemmaTraits.refuse(json);
    // transformers reads the key and does not compute with it.
    const cap = json.attn_logit_softcapping ?? null;
    if (cap !== null) throw wrongSetting('attn_logit_softcapping', 'null', cap);
  },
  // Files before transformers 5 have the base of layers with windows apart, and scale the others alone.
  ropes: (json, layers) =>
    ropesByWindow(json, windows(json, layers), {
      full: { rope_theta: 1e6, ...json },
      sliding: { rope_theta: json.rope_local_base_freq ?? 1e4 },
    }),
});

function windows(json: Json, layers: number) {
  const pattern = count(json, 'sliding_window_pattern', 6);
  return typedWindows(json, layers, (layer) => (layer + 1) % pattern === 0);
}
