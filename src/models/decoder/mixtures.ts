/** How config.json says that every layer is a mixture of experts; lists where layers differ. */

import { isDeepStrictEqual } from 'node:util';
import type { LayerPlan } from '../model.ts';
import type { Json } from '../settings.ts';
import { asSetting, counts, wrongSetting } from '../settings.ts';
import type { Mixture } from './traits.ts';

interface Experts {
  /** Where config.json does not say how many there are. */
  readonly count: number;
  /** The key of their width. */
  readonly width: string;
  readonly normalized: boolean;
}

/**
 * A mixture for each layer; undefined where it has 0 experts.
 * @throws LapidaryError where a token is sent to more experts than there are
 */
export function readExperts(
  json: Json,
  layers: number,
  { count: absent, width, normalized }: Experts,
): readonly (Mixture | undefined)[] {
  const experts = counts(withCount(json, absent), 'num_experts', layers);
  const sent = counts(json, 'num_experts_per_tok', layers);
  const widths = counts(json, width, layers);
  return experts.map((count, layer) => {
    if (count === 0) return undefined;
    const perToken = sent[layer];
    if (perToken < 1 || perToken > count)
      throw wrongSetting('num_experts_per_tok', `1 to ${count}, the number of experts`, perToken);
    return { count, perToken, normalized, width: widths[layer] };
  });
}

/** Some files, those of transformers 5 among them, say `num_local_experts`. */
function withCount({ num_experts: own, num_local_experts: other }: Json, absent: number): Json {
  if (own !== undefined && other !== undefined && !isDeepStrictEqual(own, other))
    throw wrongSetting('num_experts', `what "num_local_experts" says, ${JSON.stringify(other)}`, own);
  return { num_experts: own ?? other ?? absent };
}

/** The other way, in both words; of layers with one feed-forward the numbers of others, which nobody reads. */
export function expertSettings(layers: readonly LayerPlan[], width: string): Json {
  const [first] = layers.filter(({ experts }) => experts);
  if (!first) return {};
  const each = (value: (plan: LayerPlan) => number) =>
    asSetting(layers.map((plan) => value(plan.experts ? plan : first)));
  const count = each(({ experts }) => experts!.count);
  return {
    num_experts: count,
    num_local_experts: count,
    num_experts_per_tok: each(({ experts }) => experts!.perToken),
    [width]: each(({ intermediate }) => intermediate),
  };
}
