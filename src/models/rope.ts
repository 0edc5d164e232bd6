/**
 * Rotary position embedding (Su et al. 2021, RoFormer): from config.json to tables of cosines and sines.
 * Older files say `rope_theta` and `rope_scaling`, transformers 5 says `rope_parameters`.
 */

import { isObject } from '../base/json.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { LayerPlan, RopePlan } from './model.ts';
import type { Json } from './settings.ts';
import { count, flag, positive, wrongSetting } from './settings.ts';

/** What an architecture honours of it. */
export interface RopeOptions {
  /** Whether heads may be rotated in part. */
  readonly partial?: boolean | undefined;
  /** The kind of layers whose rotation is asked for, where a file may hold one for each: "sliding_attention". */
  readonly kind?: string | undefined;
  /** The context before it was made longer, where nothing says it. */
  readonly originalContext?: number | undefined;
}

/**
 * As transformers 5 takes them: `rope_scaling`, where it says anything, before `rope_parameters`.
 * @throws LapidaryError on a kind of scaling that is not computed here, naming it
 */
export function readRope(json: Json, options: RopeOptions = {}): RopePlan {
  const { partial = false, kind, originalContext } = options;
  const { key, settings } = settingsOf(json, kind);
  const share = settings.partial_rotary_factor ?? json.partial_rotary_factor ?? 1;
  if (share !== 1 && !partial) throw wrongSetting('partial_rotary_factor', '1', share);
  if (typeof share !== 'number' || !(share > 0 && share <= 1))
    throw wrongSetting('partial_rotary_factor', 'a number above 0, at most 1', share);
  const theta = positive({ rope_theta: settings.rope_theta ?? json.rope_theta }, 'rope_theta', 10000);
  const scaling = scalingOf(key, settings, json, originalContext);
  return {
    theta,
    ...(share === 1 ? {} : { share }),
    ...(scaling ? { scaling } : {}),
  };
}

function scalingOf(key: string, settings: Json, json: Json, originalContext?: number): RopePlan['scaling'] {
  // Before transformers 4.43 the kind stood under "type", and longrope was called "su".
  const type = settings.rope_type ?? settings.type ?? 'default';
  switch (type) {
    case 'default':
      return undefined;
    case 'linear':
      return { type: 'linear', factor: positive(settings, 'factor') };
    case 'dynamic':
      return { type: 'dynamic', factor: positive(settings, 'factor') };
    case 'llama3':
      return {
        type: 'llama3',
        factor: positive(settings, 'factor'),
        lowFrequencyFactor: positive(settings, 'low_freq_factor'),
        highFrequencyFactor: positive(settings, 'high_freq_factor'),
        originalContext: count(settings, 'original_max_position_embeddings'),
      };
    case 'yarn':
      return yarn(settings, json);
    case 'longrope':
    case 'su':
      return longrope(settings, json, originalContext);
    default:
      throw wrongSetting(`${key}.rope_type`, 'default, linear, dynamic, llama3, yarn or longrope', type);
  }
}

/** YaRN (Peng et al. 2023, arXiv:2309.00071). */
function yarn(settings: Json, json: Json): RopePlan['scaling'] {
  const originalContext = count(settings, 'original_max_position_embeddings', contextOf(json));
  const factor = positive(settings, 'factor', contextOf(json) / originalContext);
  const scaleOf = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  const { mscale, mscale_all_dim: all } = settings;
  const scale =
    typeof mscale === 'number' && typeof all === 'number' && mscale !== 0 && all !== 0
      ? scaleOf(mscale) / scaleOf(all)
      : scaleOf(1);
  return {
    type: 'yarn',
    factor,
    originalContext,
    attentionFactor: positive(settings, 'attention_factor', scale),
    fast: positive(settings, 'beta_fast', 32),
    slow: positive(settings, 'beta_slow', 1),
    truncate: flag(settings, 'truncate', true),
  };
}

/** LongRoPE (Ding et al. 2024, arXiv:2402.13753). */
function longrope(settings: Json, json: Json, originalOf: number | undefined): RopePlan['scaling'] {
  const context = contextOf(json);
  const key = 'original_max_position_embeddings';
  const originalContext = count({ ...json, ...settings }, key, originalOf ?? context);
  if (count(json, key, originalContext) !== originalContext)
    throw wrongSetting(key, `${originalContext}, as of the rotation`, json[key]);
  const factor = positive(settings, 'factor', context / originalContext);
  const scale = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalContext));
  return {
    type: 'longrope',
    short: numbers(settings, 'short_factor'),
    long: numbers(settings, 'long_factor'),
    originalContext,
    attentionFactor: positive(settings, 'attention_factor', scale),
  };
}

const contextOf = (json: Json): number => count(json, 'max_position_embeddings', 2048);

function numbers(json: Json, key: string): readonly number[] {
  const value = json[key];
  if (Array.isArray(value) && value.every((each) => typeof each === 'number' && each > 0))
    return value as number[];
  throw wrongSetting(key, 'a list of numbers above 0', value);
}

function settingsOf(json: Json, kind?: string): { readonly key: string; readonly settings: Json } {
  const { rope_scaling: scaling } = json;
  if (hasRopes(json) && isObject(scaling) && Object.keys(scaling).length > 0)
    throw wrongSetting('rope_scaling', 'null beside "rope_parameters" of each kind of layers', scaling);
  for (const key of ['rope_scaling', 'rope_parameters']) {
    const settings = json[key] ?? {};
    if (!isObject(settings)) throw wrongSetting(key, 'an object', settings);
    const own = kind === undefined ? undefined : settings[kind];
    if (isObject(own)) return { key: `${key}.${kind}`, settings: own };
    const nested = Object.entries(settings).find(([, value]) => isObject(value));
    if (nested) throw wrongSetting(`${key}.${nested[0]}`, 'one rotation for all layers', nested[1]);
    if (Object.keys(settings).length > 0) return { key, settings };
  }
  return { key: 'rope_parameters', settings: {} };
}

/** Whether config.json holds a rotation for each kind of layers. */
export const hasRopes = ({ rope_parameters: settings }: Json): boolean =>
  isObject(settings) && Object.values(settings).some(isObject);

/**
 * Of each layer, where those with windows are rotated in their own way.
 * @param older what stands for `rope_parameters` of each kind of layers in files that have none
 */
export function ropesByWindow(
  json: Json,
  windows: readonly (number | undefined)[],
  older: { readonly full: Json; readonly sliding: Json },
): readonly RopePlan[] {
  const [full, sliding] = hasRopes(json)
    ? [readRope(json, { kind: 'full_attention' }), readRope(json, { kind: 'sliding_attention' })]
    : [readRope(older.full), readRope(older.sliding)];
  return windows.map((window) => (window === undefined ? full : sliding));
}

/** The rotations that layers have, each once. */
export function ropesOf(layers: readonly LayerPlan[]): readonly RopePlan[] {
  const found = new Map(layers.flatMap(({ rope }) => (rope ? [[JSON.stringify(rope), rope] as const] : [])));
  return [...found.values()];
}

/** The same plan for config.json, in the words of transformers 5 and in those before it. */
export function ropeSettings({ theta, scaling }: RopePlan, json: Json): Json {
  const { settings } = settingsOf(json);
  const { rope_theta: _, type: __, rope_type: ___, ...rest } = settings;
  const type = scaling?.type ?? 'default';
  return {
    rope_theta: theta,
    rope_parameters: { ...rest, rope_theta: theta, rope_type: type },
    rope_scaling: scaling ? { ...rest, type, rope_type: type } : null,
  };
}

/** Channels of a head that are rotated, from its first on. */
export const rotatedSize = ({ share = 1 }: RopePlan, headSize: number): number =>
  Math.floor(headSize * share);

/** Radians a position turns each pair by, and what cosines and sines are multiplied by. */
export interface Frequencies {
  /** theta^(-2i / size) for i = 0 .. size / 2 - 1, scaled. */
  readonly radians: Float64Array;
  readonly factor: number;
}

/**
 * As transformers' modeling_rope_utils has them. llama3: waves longer than the original context are slowed by `factor`,
 * short ones are left alone, those between are blended; yarn blends by pairs. dynamic changes nothing within the context.
 * @param positions the longest sequence: longrope slows those behind the original context otherwise
 */
export function frequenciesOf(plan: RopePlan, headSize: number, positions = 0): Frequencies {
  const { theta, scaling } = plan;
  const size = rotatedSize(plan, headSize);
  const plain = Float64Array.from({ length: size / 2 }, (_, pair) => theta ** ((-2 * pair) / size));
  switch (scaling?.type) {
    case 'linear':
      return { radians: plain.map((frequency) => frequency / scaling.factor), factor: 1 };
    case 'llama3':
      return { radians: plain.map((frequency) => blended(frequency, scaling)), factor: 1 };
    case 'yarn':
      return { radians: ramped(plain, size, theta, scaling), factor: scaling.attentionFactor };
    case 'longrope': {
      const factors = positions > scaling.originalContext ? scaling.long : scaling.short;
      if (factors.length !== plain.length)
        throw wrongSetting('long_factor and short_factor', `${plain.length} numbers each`, factors);
      return {
        radians: plain.map((frequency, pair) => frequency / factors[pair]),
        factor: scaling.attentionFactor,
      };
    }
    default:
      return { radians: plain, factor: 1 };
  }
}

type Scaled<Type extends string> = Extract<NonNullable<RopePlan['scaling']>, { readonly type: Type }>;

function blended(
  frequency: number,
  { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext }: Scaled<'llama3'>,
): number {
  const waves = (originalContext * frequency) / (2 * Math.PI);
  if (waves < low) return frequency / factor;
  if (waves > high) return frequency;
  const blend = (waves - low) / (high - low);
  return ((1 - blend) * frequency) / factor + blend * frequency;
}

/** arXiv:2309.00071, section 3.2: pairs that turn often within the original context stay, those that turn seldom are slowed. */
function ramped(
  plain: Float64Array,
  size: number,
  theta: number,
  { factor, originalContext, fast, slow, truncate }: Scaled<'yarn'>,
): Float64Array {
  const pairOf = (turns: number) =>
    (size * Math.log(originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [first, last] = [pairOf(fast), pairOf(slow)];
  const low = Math.max(truncate ? Math.floor(first) : first, 0);
  const high = Math.min(truncate ? Math.ceil(last) : last, size - 1);
  const span = low === high ? 0.001 : high - low;
  return plain.map((frequency, pair) => {
    const slowed = Math.min(1, Math.max(0, (pair - low) / span));
    return (slowed * frequency) / factor + (1 - slowed) * frequency;
  });
}

/** cos and sin of position * frequency: float32 [positions, pairs that are rotated]. */
export function rotaryTables(
  plan: RopePlan,
  headSize: number,
  positions: number,
): { cos: Stored; sin: Stored } {
  const { radians, factor } = frequenciesOf(plan, headSize, positions);
  const pairs = radians.length;
  const cos = new Float32Array(positions * pairs);
  const sin = new Float32Array(positions * pairs);
  for (let position = 0; position < positions; position++) {
    for (let pair = 0; pair < pairs; pair++) {
      const angle = position * radians[pair];
      cos[position * pairs + pair] = factor * Math.cos(angle);
      sin[position * pairs + pair] = factor * Math.sin(angle);
    }
  }
  const shape = [positions, pairs];
  return { cos: stored('float32', shape, cos), sin: stored('float32', shape, sin) };
}
