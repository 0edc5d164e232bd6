/** SmolLM 3 (Hugging Face 2025): Llama in which every fourth layer does not rotate (Yang et al. 2025, arXiv:2501.18795). */

import { llamaBiases } from '../decoder/biases.ts';
import { decoder } from '../decoder/decoder.ts';
import { readRope } from '../rope.ts';
import type { Json } from '../settings.ts';
import { count, flag, wrongSetting } from '../settings.ts';
import { typedWindows } from '../windows.ts';

export const smollm3 = decoder({
  modelType: 'smollm3',
  className: 'SmolLM3',
  absent: { num_key_value_heads: 4, max_position_embeddings: 32768, tie_word_embeddings: true },
  biases: llamaBiases,
  ropes(json, layers) {
    const rope = readRope({ rope_theta: 2e6, ...json });
    return rotating(json, layers).map((rotates) => (rotates ? rope : undefined));
  },
  windows(json, layers) {
    const rotates = rotating(json, layers);
    const uses = flag(json, 'use_sliding_window', false) && json.sliding_window !== null;
    return typedWindows(json, layers, (layer) => !uses || rotates[layer]);
  },
});

/** `no_rope_layers` says 1 for those that rotate. */
function rotating(json: Json, layers: number): readonly boolean[] {
  const given = json.no_rope_layers ?? undefined;
  if (given === undefined) {
    const interval = count(json, 'no_rope_layer_interval', 4);
    return Array.from({ length: layers }, (_, layer) => (layer + 1) % interval !== 0);
  }
  if (Array.isArray(given) && given.length === layers && given.every((each) => each === 0 || each === 1))
    return given.map((each) => each === 1);
  throw wrongSetting('no_rope_layers', `a list of ${layers} zeros and ones`, given);
}
