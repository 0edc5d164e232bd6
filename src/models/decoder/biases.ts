/** Biases as config.json of many architectures says them. */

import type { Json } from '../settings.ts';
import { flag } from '../settings.ts';
import type { Biases } from './traits.ts';

/** Of attention, where `attention_bias` says so. */
export function attentionBiases(json: Json): Biases {
  const attention = flag(json, 'attention_bias', false);
  return { queryKeyValue: attention, output: attention, feedForward: false };
}

/** Of feed-forwards, too, where `mlp_bias` says so. */
export const llamaBiases = (json: Json): Biases => ({
  ...attentionBiases(json),
  feedForward: flag(json, 'mlp_bias', false),
});
