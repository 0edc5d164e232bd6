/**
 * Rotary position embedding (Su et al. 2021, RoFormer): from config.json to tables of cosines and sines.
 * Older files say `rope_theta` and `rope_scaling`, transformers 5 says `rope_parameters`.
 */

import { isObject } from '../base/json.ts';
import type { Stored } from '../base/tensor.ts';
import { stored } from '../base/tensor.ts';
import type { RopePlan } from './model.ts';
import type { Json } from './settings.ts';
import { count, positive, wrongSetting } from './settings.ts';

/**
 * As transformers 5 takes them: `rope_scaling`, where it says anything, before `rope_parameters`.
 * @throws LapidaryError on a kind of scaling that is not computed here, naming it
 */
export function readRope(json: Json): RopePlan {
  const { key, settings } = settingsOf(json);
  const partial = settings.partial_rotary_factor ?? json.partial_rotary_factor ?? 1;
  if (partial !== 1) throw wrongSetting('partial_rotary_factor', '1', partial);
  const theta = positive({ rope_theta: settings.rope_theta ?? json.rope_theta }, 'rope_theta', 10000);
  // Before transformers 4.43 the kind stood under "type".
  const type = settings.rope_type ?? settings.type ?? 'default';
  switch (type) {
    case 'default':
      return { theta };
    case 'linear':
      return { theta, scaling: { type: 'linear', factor: positive(settings, 'factor') } };
    case 'llama3':
      return {
        theta,
        scaling: {
          type: 'llama3',
          factor: positive(settings, 'factor'),
          lowFrequencyFactor: positive(settings, 'low_freq_factor'),
          highFrequencyFactor: positive(settings, 'high_freq_factor'),
          originalContext: count(settings, 'original_max_position_embeddings'),
        },
      };
    default:
      throw wrongSetting(`${key}.rope_type`, 'default, linear or llama3', type);
  }
}

function settingsOf(json: Json): { readonly key: string; readonly settings: Json } {
  for (const key of ['rope_scaling', 'rope_parameters']) {
    const settings = json[key] ?? {};
    if (!isObject(settings)) throw wrongSetting(key, 'an object', settings);
    const nested = Object.entries(settings).find(([, value]) => isObject(value));
    if (nested) throw wrongSetting(`${key}.${nested[0]}`, 'one rotation for all layers', nested[1]);
    if (Object.keys(settings).length > 0) return { key, settings };
  }
  return { key: 'rope_parameters', settings: {} };
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

/**
 * Radians a position turns each pair by: theta^(-2i / headSize) for i = 0 .. headSize / 2 - 1, scaled.
 * llama3 (transformers' modeling_rope_utils): waves longer than the original context are slowed by `factor`, short
 * ones are left alone, those between are blended.
 */
export function inverseFrequencies(plan: RopePlan, headSize: number): Float64Array {
  const { theta, scaling } = plan;
  const frequencies = Float64Array.from(
    { length: headSize / 2 },
    (_, pair) => theta ** ((-2 * pair) / headSize),
  );
  if (!scaling) return frequencies;
  if (scaling.type === 'linear') return frequencies.map((frequency) => frequency / scaling.factor);
  const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalContext } = scaling;
  return frequencies.map((frequency) => {
    const waves = (originalContext * frequency) / (2 * Math.PI);
    if (waves < low) return frequency / factor;
    if (waves > high) return frequency;
    const blend = (waves - low) / (high - low);
    return ((1 - blend) * frequency) / factor + blend * frequency;
  });
}

/** cos and sin of position * inverse frequency: float32 [positions, headSize / 2]. */
export function rotaryTables(
  plan: RopePlan,
  headSize: number,
  positions: number,
): { cos: Stored; sin: Stored } {
  const frequencies = inverseFrequencies(plan, headSize);
  const pairs = frequencies.length;
  const cos = new Float32Array(positions * pairs);
  const sin = new Float32Array(positions * pairs);
  for (let position = 0; position < positions; position++) {
    for (let pair = 0; pair < pairs; pair++) {
      const angle = position * frequencies[pair];
      cos[position * pairs + pair] = Math.cos(angle);
      sin[position * pairs + pair] = Math.sin(angle);
    }
  }
  const shape = [positions, pairs];
  return { cos: stored('float32', shape, cos), sin: stored('float32', shape, sin) };
}
