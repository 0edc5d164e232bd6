/** Models with other layers than they had: what methods that change the structure return. */

import { pickedRows } from '../base/rows.ts';
import { rowsOf } from '../base/tensor.ts';
import { dense, denseValues } from '../encodings/dense.ts';
import type { Encoding } from '../encodings/encoding.ts';
import { exitName, withExits } from './exits.ts';
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
 * that run over layers are cut. Exits go with their layers; behind the last one stands none.
 * @param kept their numbers in the order they are to run; at least one
 */
export function keepLayers(model: Model, kept: readonly number[]): Model {
  const { architecture, config } = model;
  const exits = (config.exits ?? []).filter((layer) => kept.includes(layer) && layer !== kept.at(-1));
  const prefixes = [
    ...config.layers.map((_, layer) => `${architecture.layerName(layer)}.`),
    ...(config.exits ?? []).map((layer) => `${exitName(layer)}.`),
  ];
  const places = new Map([
    ...kept.map((layer, place) => [prefixes[layer], `${architecture.layerName(place)}.`] as const),
    ...exits.map((layer) => [`${exitName(layer)}.`, `${exitName(kept.indexOf(layer))}.`] as const),
  ]);
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
  const plans = kept.map((layer) => config.layers[layer]);
  return {
    ...model,
    config: withExits(
      withPlans({ architecture, config: cut }, plans),
      exits.map((layer) => kept.indexOf(layer)),
    ),
    matrices: renamed(model.matrices),
    vectors: renamed(model.vectors),
  };
}

/**
 * The model with some of a layer's experts alone, renumbered; the others' matrices and their rows of the router are gone. A
 * token is sent to as many as before, or to all that are left.
 * @param kept their numbers in the order they are to stand; at least one
 */
export function keepExperts(model: Model, layer: number, kept: readonly number[]): Model {
  const { architecture, config } = model;
  const { router, experts } = architecture.structure(config, layer).mixture!;
  const layers = config.layers.map((plan, index) => {
    if (index !== layer || !plan.experts) return plan;
    const perToken = Math.min(plan.experts.perToken, kept.length);
    return { ...plan, experts: { ...plan.experts, count: kept.length, perToken } };
  });
  const cut = { ...model, config: withPlans(model, layers) };
  const places = architecture.structure(cut.config, layer).mixture!.experts;
  const gone = new Set(experts.flat());
  const matrices = new Map<string, Encoding>();
  for (const [name, encoding] of model.matrices) {
    if (name === router) matrices.set(name, rowsIn(encoding, kept));
    else if (!gone.has(name)) matrices.set(name, encoding);
  }
  for (const [place, expert] of kept.entries())
    for (const [index, name] of places[place].entries())
      matrices.set(name, model.matrices.get(experts[expert][index])!);
  return { ...cut, matrices };
}

/** Rows of a matrix; of one that is encoded as their values. */
function rowsIn({ plain, shape: [, columns], dense: values }: Encoding, rows: readonly number[]): Encoding {
  if (plain) return dense(rowsOf(plain, rows));
  return denseValues(pickedRows(values(), columns, rows), rows.length, columns);
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
