/**
 * Early exits: heads behind layers before the last (CALM, Schuster et al. 2022, arXiv:2207.07061; LayerSkip, Elhoushi et al.
 * 2024, arXiv:2404.16710). Each is a norm of the architecture's own kind and a matrix to the vocabulary. The matrix may be
 * the last head's: two names of one encoding.
 */

import type { Encoding } from '../encodings/encoding.ts';
import type { Configuration, Model, NormStructure } from './model.ts';
import type { Json } from './settings.ts';
import { wrongSetting } from './settings.ts';

/** What an exit's names begin with, in every architecture. */
export const exitName = (layer: number): string => `exits.${layer}`;

export const exitNames = (layer: number) => ({
  norm: `${exitName(layer)}.norm`,
  head: `${exitName(layer)}.head`,
});

/**
 * The layers behind which exits stand; undefined where there are none.
 * @throws LapidaryError that names the key
 */
export function readExits(json: Json, layers: number): readonly number[] | undefined {
  const value = json.early_exit_layers ?? [];
  const isExit = (layer: unknown, index: number, all: readonly number[]) =>
    Number.isSafeInteger(layer) &&
    (layer as number) > (all[index - 1] ?? -1) &&
    (layer as number) < layers - 1;
  if (!Array.isArray(value) || !value.every(isExit))
    throw wrongSetting(
      'early_exit_layers',
      `a list of layers, counted from 0, ascending, all before the last, ${layers - 1}`,
      value,
    );
  return value.length > 0 ? value : undefined;
}

/** @throws LapidaryError where one does not stand behind a layer before the last, or one twice */
export function withExits(config: Configuration, layers: readonly number[]): Configuration {
  const { early_exit_layers: _, ...json } = config.json;
  const exits = readExits({ early_exit_layers: layers.toSorted((a, b) => a - b) }, config.layers.length);
  return { ...config, exits, json: exits ? { ...json, early_exit_layers: exits } : json };
}

/** For `OuterStructure`. @param last the norm before the last head: theirs are of its kind */
export const exitStructures = (
  { exits = [] }: Configuration,
  { bias, offset }: Pick<NormStructure, 'bias' | 'offset'>,
): readonly NormStructure[] =>
  exits.map((layer) => {
    const { norm, head } = exitNames(layer);
    return {
      weight: `${norm}.weight`,
      ...(bias === undefined ? {} : { bias: `${norm}.bias` }),
      ...(offset === undefined ? {} : { offset }),
      readers: [{ matrix: head }],
    };
  });

/** The layer of the exit whose matrix has this name. */
export const exitOf = ({ exits = [] }: Configuration, name: string): number | undefined =>
  exits.find((layer) => exitNames(layer).head === name);

/**
 * The model with an exit behind a layer that reads the stream as the last head does: its norm has the last norm's values.
 * @param matrix [vocabulary, hidden]; the last head's, shared, where it is not given
 * @throws LapidaryError where the layer is the last one, or has an exit
 */
export function addExit(model: Model, layer: number, matrix?: Encoding): Model {
  const { architecture } = model;
  const config = withExits(model.config, [...(model.config.exits ?? []), layer]);
  const { norm, exits } = architecture.around(config);
  const exit = exits[config.exits!.indexOf(layer)];
  const vectors = new Map(model.vectors).set(exit.weight, model.vectors.get(norm.weight)!);
  if (exit.bias) vectors.set(exit.bias, model.vectors.get(norm.bias!)!);
  const own = matrix ?? model.matrices.get(norm.readers[0].matrix)!;
  return { ...model, config, vectors, matrices: new Map(model.matrices).set(exit.readers[0].matrix, own) };
}
