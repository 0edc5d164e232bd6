/** Which layers see only a window of positions, as config.json says it. */

import type { Configuration } from './model.ts';
import type { Json } from './settings.ts';
import { count, flag, wrongSetting } from './settings.ts';

/**
 * As Qwen has them: `layer_types` where it is given, else a window from layer `max_window_layers` on; none without `use_sliding_window`.
 */
export function upperWindows(json: Json, layers: number): readonly (number | undefined)[] {
  const window = flag(json, 'use_sliding_window', false) && json.sliding_window !== null;
  const size = window ? count(json, 'sliding_window', 4096) : undefined;
  const types = json.layer_types ?? undefined;
  if (types === undefined) {
    const first = json.max_window_layers === 0 ? 0 : count(json, 'max_window_layers', 28);
    return Array.from({ length: layers }, (_, layer) => (layer >= first ? size : undefined));
  }
  if (!Array.isArray(types) || types.length !== layers) {
    throw wrongSetting('layer_types', `a list of ${layers}`, types);
  }
  return types.map((type) => {
    if (type === 'full_attention') return undefined;
    if (type === 'sliding_attention' && size !== undefined) return size;
    throw wrongSetting('layer_types', 'full_attention, or sliding_attention with a sliding_window', type);
  });
}

/** One for all layers, where `sliding_window` is a number. */
export function evenWindows(json: Json, layers: number): readonly (number | undefined)[] {
  const given = json.sliding_window ?? undefined;
  return new Array<number | undefined>(layers).fill(
    given === undefined ? undefined : count(json, 'sliding_window'),
  );
}

/**
 * Windows of `sliding_window` in layers that `layer_types` calls so; without it in those that do not see everything.
 * @param seesAll by layer, where config.json does not say
 */
export function typedWindows(
  json: Json,
  layers: number,
  seesAll: (layer: number) => boolean,
): readonly (number | undefined)[] {
  const given = json.layer_types ?? undefined;
  if (given !== undefined && (!Array.isArray(given) || given.length !== layers))
    throw wrongSetting('layer_types', `a list of ${layers}`, given);
  const types: readonly unknown[] =
    given ?? Array.from({ length: layers }, (_, layer) => (seesAll(layer) ? full : sliding));
  return types.map((type) => {
    if (type === full) return undefined;
    if (type !== sliding) throw wrongSetting('layer_types', `${full} or ${sliding}`, type);
    return count(json, 'sliding_window');
  });
}

const [full, sliding] = ['full_attention', 'sliding_attention'];

/** The positions that the narrowest layer sees; undefined where all see the whole context. */
export function narrowestWindow({ layers, context }: Configuration): number | undefined {
  const windows = layers.map(({ window }) => window ?? context);
  const narrowest = Math.min(...windows);
  return narrowest < context ? narrowest : undefined;
}
