/**
 * genai_config.json, by which onnxruntime-genai runs an exported folder. Checked against 0.18, which feeds
 * num_logits_to_keep by itself.
 */

import type { Model } from '../models/model.ts';
import { isFused } from './attention.ts';

/** @param file the ONNX file, relative to the folder */
export function genaiConfig({ config }: Model, file: string): Record<string, unknown> {
  const { layers } = config;
  const { heads, keyValueHeads, headSize } = layers.find((layer) => layer.heads > 0) ?? layers[0];
  const { eos, bos, pad } = config;
  const hybrid = layers.some(({ convolution }) => convolution);
  const end = eos.length === 1 ? eos[0] : eos;
  return {
    model: {
      // Architectures without rotary positions go by the generic name: of "gpt2" another layout of the cache is expected.
      type: layers.some(({ rope }) => rope) ? config.modelType : 'decoder',
      context_length: config.context,
      vocab_size: config.vocabulary,
      ...(bos === undefined ? {} : { bos_token_id: bos }),
      ...(eos.length === 0 ? {} : { eos_token_id: end, pad_token_id: pad ?? eos[0] }),
      decoder: {
        session_options: { log_id: 'onnxruntime-genai', provider_options: [] },
        filename: file,
        hidden_size: config.hidden,
        head_size: headSize,
        num_attention_heads: heads,
        num_key_value_heads: keyValueHeads,
        num_hidden_layers: layers.length,
        ...(hybrid && {
          layer_types: layers.map(({ convolution }) => (convolution ? 'conv' : 'full_attention')),
          conv_cache_size: layers.find(({ convolution }) => convolution)!.convolution!.width - 1,
        }),
        inputs: {
          input_ids: 'input_ids',
          attention_mask: 'attention_mask',
          past_key_names: 'past_key_values.%d.key',
          past_value_names: 'past_key_values.%d.value',
          ...(hybrid && { past_conv_names: 'past_conv.%d' }),
        },
        outputs: {
          logits: 'logits',
          present_key_names: 'present.%d.key',
          present_value_names: 'present.%d.value',
          ...(hybrid && { present_conv_names: 'present_conv.%d' }),
        },
      },
    },
    search: {
      max_length: config.context,
      min_length: 0,
      num_beams: 1,
      do_sample: false,
      // Only the fused attention writes new tokens into the buffer that holds the old ones.
      past_present_share_buffer: layers.every((_, layer) => isFused(config, layer)),
    },
  };
}
