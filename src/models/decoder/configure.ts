/** config.json of a decoder, by its traits, as a configuration; and back. */

import { readExits } from '../exits.ts';
import type { Configuration, ExpertsPlan, LayerPlan } from '../model.ts';
import { readRope, rotatedSize } from '../rope.ts';
import type { Json } from '../settings.ts';
import { asSetting, count, counts, flag, positive, tokens, word, wrongSetting } from '../settings.ts';
import type { Activation, DecoderTraits, Keys, Mixture } from './traits.ts';
import { llamaKeys } from './traits.ts';

const silu = (json: Json): Activation => {
  word(json, 'hidden_act', ['silu', 'swish'], 'silu');
  return 'silu';
};

export const activationOf = ({ activation = silu }: DecoderTraits, json: Json): Activation =>
  activation(json);

export const keysOf = ({ keys }: DecoderTraits): Keys => ({ ...llamaKeys, ...keys });

/** @throws LapidaryError on a value that cannot be honoured, naming the key */
export function configure(traits: DecoderTraits, json: Json, mostLayers?: number): Configuration {
  const stated = { ...traits.absent, ...json };
  const settings = traits.read?.(stated) ?? stated;
  const keys = keysOf(traits);
  activationOf(traits, settings);
  // transformers computes attention to what comes after, too, in every architecture.
  if (!flag(settings, 'is_causal', true)) throw wrongSetting('is_causal', 'true', false);
  traits.refuse?.(settings);
  const hidden = count(settings, keys.hidden);
  const layers = count(settings, keys.layers, undefined, mostLayers);
  const plans = plansOf(traits, settings, hidden, layers);
  const context = count(settings, keys.context, 2048);
  const normEpsilon = positive(settings, keys.epsilon, 1e-6);
  const tiedHead = flag(settings, 'tie_word_embeddings', false);
  return {
    modelType: traits.modelType,
    hidden,
    vocabulary: count(settings, 'vocab_size'),
    context,
    layers: plans,
    normEpsilon,
    tiedHead,
    exits: readExits(json, layers),
    bos: tokens(json, 'bos_token_id')[0],
    eos: tokens(json, 'eos_token_id'),
    // What is left out is taken for something else by other engines, or asked for.
    json: {
      ...settings,
      ...traits.mixtures?.settings(plans),
      ...traits.mixers?.settings(plans),
      ...keyValueSetting(keys, plans),
      ...(keys.headSize === undefined ? {} : { [keys.headSize]: plans[0].headSize }),
      [keys.context]: context,
      [keys.epsilon]: normEpsilon,
      tie_word_embeddings: tiedHead,
    },
  };
}

function plansOf(traits: DecoderTraits, settings: Json, hidden: number, layers: number): LayerPlan[] {
  const keys = keysOf(traits);
  const heads = counts(settings, keys.heads, layers);
  const groups = keys.keyValueHeads;
  const keyValueHeads = groups === undefined ? heads : counts(settings, groups, layers, heads);
  const most = Math.max(...heads, 1);
  const headSize = headSizeOf(keys, settings, hidden / most);
  for (const [layer, count] of keyValueHeads.entries())
    if (count === 0 ? heads[layer] !== 0 : heads[layer] % count !== 0)
      throw wrongSetting(groups ?? keys.heads, `a divisor of the ${heads[layer]} heads`, count);
  const intermediate = counts(settings, keys.intermediate, layers);
  const windows = traits.windows?.(settings, layers);
  const mixtures = traits.mixtures?.read(settings, layers);
  const ropes = traits.ropes?.(settings, layers) ?? new Array(layers).fill(readRope(settings));
  const scale = traits.factors?.(settings).scores;
  const softcap = traits.caps?.(settings).scores;
  for (const rope of ropes)
    if (rope && rotatedSize(rope, headSize) % 2 !== 0)
      throw wrongSetting(
        rope.share === undefined ? 'head_dim' : 'partial_rotary_factor',
        `an even number of a head's ${headSize} channels`,
        rope.share ?? headSize,
      );
  const mixers = traits.mixers?.read(settings, layers);
  return Array.from({ length: layers }, (_, layer) => ({
    heads: mixers?.[layer] ? 0 : heads[layer],
    keyValueHeads: mixers?.[layer] ? 0 : keyValueHeads[layer],
    headSize,
    intermediate: mixtures?.[layer]?.width ?? intermediate[layer],
    experts: expertsIn(mixtures?.[layer]),
    window: windows?.[layer],
    rope: ropes[layer],
    alibi: traits.alibi?.(settings, heads[layer], headSize),
    scale,
    softcap,
    ...mixers?.[layer],
  }));
}

const keyValueSetting = ({ keyValueHeads: key }: Keys, layers: readonly LayerPlan[]): Json =>
  key === undefined ? {} : { [key]: asSetting(attending(layers).map(({ keyValueHeads }) => keyValueHeads)) };

/** As config.json says it; where it has no word for it, it may say nothing else. */
function headSizeOf({ headSize: key }: Keys, settings: Json, usual: number): number {
  const size = count(settings, key ?? 'head_dim', usual);
  if (key === undefined && size !== usual) throw wrongSetting('head_dim', `${usual}, or nothing`, size);
  return size;
}

/** Layers that heads are counted of: those with something else in the place of attention have as many as the first. */
function attending(layers: readonly LayerPlan[]): readonly LayerPlan[] {
  const isMixer = ({ convolution }: LayerPlan) => convolution !== undefined;
  const first = layers.find((layer) => !isMixer(layer));
  return first ? layers.map((layer) => (isMixer(layer) ? first : layer)) : layers;
}

function expertsIn(mixture: Mixture | undefined): ExpertsPlan | undefined {
  if (!mixture) return undefined;
  const { width: _, ...plan } = mixture;
  return plan;
}

/** What config.json says of layers; a list where they differ. */
export function settingsOf(traits: DecoderTraits, layers: readonly LayerPlan[]): Json {
  const keys = keysOf(traits);
  return {
    [keys.layers]: layers.length,
    [keys.heads]: asSetting(attending(layers).map(({ heads }) => heads)),
    ...keyValueSetting(keys, layers),
    ...traits.mixers?.settings(layers),
    ...widthSettings(traits, keys, layers),
    ...traits.settings?.(layers),
  };
}

/** Of feed-forwards, and of experts where some layers have these. */
function widthSettings({ mixtures }: DecoderTraits, keys: Keys, layers: readonly LayerPlan[]): Json {
  const single = mixtures ? layers.filter(({ experts }) => !experts) : layers;
  const own = mixtures?.settings(layers);
  if (single.length === 0) return { ...own };
  // Of a mixture nobody reads it.
  const width = layers.map(({ intermediate, experts }) => (experts ? single[0].intermediate : intermediate));
  return { [keys.intermediate]: asSetting(width), ...own };
}
