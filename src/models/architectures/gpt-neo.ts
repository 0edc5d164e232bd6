/** GPT-Neo (Black et al. 2021) and TinyStories (Eldan and Li 2023, arXiv:2305.07759): learned positions, scores that are not scaled. */

import { isDeepStrictEqual } from 'node:util';
import { activationAt } from '../decoder/activation.ts';
import { decoder } from '../decoder/decoder.ts';
import type { LayerPlan } from '../model.ts';
import type { Json } from '../settings.ts';
import { count, renamed, wrongSetting } from '../settings.ts';

export const gptNeo = decoder({
  modelType: 'gpt_neo',
  className: 'GPTNeo',
  absent: {
    layer_norm_epsilon: 1e-5,
    tie_word_embeddings: true,
    window_size: 256,
    attention_types: [[['global', 'local'], 12]],
  },
  read(json) {
    const own = renamed(json, { num_attention_heads: 'num_heads', num_hidden_layers: 'num_layers' });
    return { ...own, intermediate_size: own.intermediate_size ?? 4 * count(own, 'hidden_size') };
  },
  keys: {
    layers: 'num_layers',
    heads: 'num_heads',
    epsilon: 'layer_norm_epsilon',
    headSize: undefined,
    keyValueHeads: undefined,
  },
  names: {
    table: 'transformer.wte',
    layers: 'transformer.h',
    attentionNorm: 'ln_1',
    feedForwardNorm: 'ln_2',
    query: 'attn.attention.q_proj',
    key: 'attn.attention.k_proj',
    value: 'attn.attention.v_proj',
    output: 'attn.attention.out_proj',
    up: 'c_fc',
    down: 'c_proj',
    finalNorm: 'transformer.ln_f',
  },
  positions: { table: 'transformer.wpe', offset: 0 },
  ropes: (_, layers) => new Array(layers).fill(undefined),
  norm: { kind: 'layer', bias: true },
  gated: false,
  activation: activationAt('activation_function', 'gelu_new'),
  biases: () => ({ queryKeyValue: false, output: true, feedForward: true }),
  factors: () => ({ scores: 1 }),
  windows,
  settings: (layers) => ({
    attention_types: [[layers.map(kindOf), 1]],
    attention_layers: layers.map(kindOf),
  }),
});

const kindOf = ({ window }: LayerPlan) => (window === undefined ? 'global' : 'local');

/** `attention_types` says kinds and how often they are repeated: [[["global", "local"], 12]]. */
function windows(json: Json, layers: number): readonly (number | undefined)[] {
  const wrong = () =>
    wrongSetting('attention_types', `global and local, for ${layers} layers`, json.attention_types);
  const groups: unknown = json.attention_types;
  if (!Array.isArray(groups)) throw wrong();
  const kinds = groups.flatMap((group: unknown) => {
    const [own, times] = Array.isArray(group) ? (group as readonly unknown[]) : [];
    const fits = Number.isSafeInteger(times) && (times as number) >= 0 && (times as number) <= layers;
    if (!Array.isArray(own) || !fits) throw wrong();
    return new Array<readonly unknown[]>(times as number).fill(own).flat();
  });
  if (kinds.length !== layers || !kinds.every((kind) => kind === 'global' || kind === 'local')) throw wrong();
  const listed = json.attention_layers ?? kinds;
  if (!isDeepStrictEqual(listed, kinds))
    throw wrongSetting('attention_layers', `what "attention_types" says, ${kinds.join(', ')}`, listed);
  return kinds.map((kind) => (kind === 'local' ? count(json, 'window_size') : undefined));
}
