/** Models with other layers than they had: what methods that change the structure return. */

import type { Configuration, LayerPlan, Model } from './model.ts';

/**
 * The configuration with layers of other sizes, as many as there were.
 * @throws LapidaryError where the architecture has no such layers
 */
export const withPlans = (
  { architecture, config }: Pick<Model, 'architecture' | 'config'>,
  layers: readonly LayerPlan[],
): Configuration => ({ ...config, layers, json: { ...config.json, ...architecture.settings(layers) } });

/**
 * The model with some of its layers alone, renumbered; matrices and vectors stay as they are, and lists of config.json
 * that run over layers are cut.
 * @param kept their numbers in the order they are to run; at least one
 */
export function keepLayers(model: Model, kept: readonly number[]): Model {
  const { architecture, config } = model;
  const prefixes = config.layers.map((_, layer) => `${architecture.layerName(layer)}.`);
  const places = new Map(kept.map((layer, place) => [prefixes[layer], `${architecture.layerName(place)}.`]));
  const renamed = <T>(all: ReadonlyMap<string, T>): Map<string, T> =>
    new Map(
      [...all].flatMap(([name, value]) => {
        const prefix = prefixes.find((prefix) => name.startsWith(prefix));
        if (prefix === undefined) return [[name, value] as const];
        const place = places.get(prefix);
        return place === undefined ? [] : [[place + name.slice(prefix.length), value] as const];
      }),
    );
  const cut = { ...config, json: cutLists(config, kept) };
  return {
    ...model,
    config: withPlans(
      { architecture, config: cut },
      kept.map((layer) => config.layers[layer]),
    ),
    matrices: renamed(model.matrices),
    vectors: renamed(model.vectors),
  };
}

/** Lists with one entry a layer, and the layer from which on there are windows. */
function cutLists({ json, layers }: Configuration, kept: readonly number[]): Configuration['json'] {
  const entries = Object.entries(json).map(([key, value]) => {
    if (key === 'max_window_layers' && typeof value === 'number')
      return [key, kept.filter((layer) => layer < value).length];
    const runsOver = key === 'layer_types' || key.endsWith('_layers');
    if (!runsOver || !Array.isArray(value) || value.length !== layers.length) return [key, value];
    return [key, kept.map((layer) => value[layer] as unknown)];
  });
  return Object.fromEntries(entries) as Configuration['json'];
}
