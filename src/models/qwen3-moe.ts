/** Qwen 3 as a mixture of experts (Yang et al. 2025): layers of Qwen 3 whose feed-forwards are many small ones. */

import { isDeepStrictEqual } from 'node:util';
import type { Mixtures } from './decoder.ts';
import { decoder } from './decoder.ts';
import type { LayerPlan } from './model.ts';
import type { Json } from './settings.ts';
import { asSetting, count, counts, flag, wrongSetting } from './settings.ts';

export const qwen3Moe = decoder({
  modelType: 'qwen3_moe',
  className: 'Qwen3Moe',
  absent: {
    num_key_value_heads: 4,
    max_position_embeddings: 32768,
    num_experts_per_tok: 8,
    moe_intermediate_size: 768,
  },
  biases: (json) => {
    const attention = flag(json, 'attention_bias', false);
    return { queryKeyValue: attention, output: attention, feedForward: false };
  },
  queryKeyNorm: true,
  windows: (json, layers) => {
    const window = flag(json, 'use_sliding_window', false) && json.sliding_window !== null;
    return new Array<number | undefined>(layers).fill(
      window ? count(json, 'sliding_window', 4096) : undefined,
    );
  },
  mixtures: { read: mixtures, settings },
});

/** Every `decoder_sparse_step`-th layer is a mixture, but for those in `mlp_only_layers`; lists where layers differ. */
function mixtures(json: Json, layers: number): ReturnType<Mixtures['read']> {
  const step = count(json, 'decoder_sparse_step', 1);
  const single = singleLayers(json);
  const experts = counts(withCount(json), 'num_experts', layers);
  const sent = counts(json, 'num_experts_per_tok', layers);
  const widths = counts(json, 'moe_intermediate_size', layers);
  const normalized = flag(json, 'norm_topk_prob', false);
  return experts.map((count, layer) => {
    if (count === 0 || single.includes(layer) || (layer + 1) % step !== 0) return undefined;
    const perToken = sent[layer];
    if (perToken < 1 || perToken > count)
      throw wrongSetting('num_experts_per_tok', `1 to ${count}, the number of experts`, perToken);
    return { count, perToken, normalized, width: widths[layer] };
  });
}

/** What transformers 5 writes as `num_local_experts`. */
function withCount(json: Json): Json {
  const { num_experts: own, num_local_experts: other } = json;
  if (own !== undefined && other !== undefined && !isDeepStrictEqual(own, other))
    throw wrongSetting('num_experts', `what "num_local_experts" says, ${JSON.stringify(other)}`, own);
  return { num_experts: own ?? other ?? 128 };
}

function singleLayers({ mlp_only_layers: single }: Json): readonly number[] {
  if (single === undefined || single === null) return [];
  if (Array.isArray(single) && single.every((layer) => Number.isSafeInteger(layer)))
    return single as number[];
  throw wrongSetting('mlp_only_layers', 'a list of layers', single);
}

/** Of layers with one feed-forward the numbers of others: nobody reads them. */
function settings(layers: readonly LayerPlan[]): Json {
  const single = [...layers.keys()].filter((layer) => !layers[layer].experts);
  const [first] = layers.filter(({ experts }) => experts);
  if (!first) return { mlp_only_layers: single };
  const each = (value: (plan: LayerPlan) => number) =>
    asSetting(layers.map((plan) => value(plan.experts ? plan : first)));
  const count = each(({ experts }) => experts!.count);
  return {
    decoder_sparse_step: 1,
    mlp_only_layers: single,
    num_experts: count,
    num_local_experts: count,
    num_experts_per_tok: each(({ experts }) => experts!.perToken),
    moe_intermediate_size: each(({ intermediate }) => intermediate),
  };
}
