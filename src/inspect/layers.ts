/** The layers of a model by the names of its tensors: "model.layers.3.", "blk.3.", "encoder.layer.3.", whatever stands before. */

import type { LayerPlan } from '../models/model.ts';
import type { InspectedTensor } from './tensor.ts';

export interface InspectedLayer extends Partial<LayerPlan> {
  readonly layer: number;
  /** What its tensors' names begin with, where a model has several stacks of layers: "vision_tower.encoder.layers". */
  readonly stack?: string | undefined;
  readonly parameters: number;
  readonly bytes: number;
  /** Of its matrices; those with most bytes first. */
  readonly labels: readonly string[];
}

interface Place {
  readonly stack: string;
  readonly layer: number;
}

/** The place that each name has; of names outside all layers, none. A stack has modules in its layers, not a weight alone. */
export function placesOf(names: readonly string[]): (name: string) => Place | undefined {
  const split = (name: string) => /^(.*?)\.(\d+)\.(.+)$/.exec(name);
  const stacks = new Set<string>();
  for (const name of names) {
    const [, stack, , rest] = split(name) ?? [];
    if (rest?.includes('.')) stacks.add(stack!);
  }
  return (name) => {
    const [, stack, layer] = split(name) ?? [];
    return stack !== undefined && stacks.has(stack) ? { stack, layer: Number(layer) } : undefined;
  };
}

/** @param plans of the main stack's layers: the first that has as many of them */
export function layersOf(
  tensors: readonly InspectedTensor[],
  plans: readonly Partial<LayerPlan>[],
): InspectedLayer[] {
  const stacks = new Map<string, Map<number, InspectedTensor[]>>();
  const place = placesOf(tensors.map(({ name }) => name));
  for (const tensor of tensors) {
    const at = place(tensor.name);
    if (!at) continue;
    const layers = stacks.get(at.stack) ?? new Map<number, InspectedTensor[]>();
    stacks.set(at.stack, layers);
    layers.set(at.layer, [...(layers.get(at.layer) ?? []), tensor]);
  }
  const main = [...stacks].find(([, layers]) => layers.size === plans.length)?.[0];
  return [...stacks].flatMap(([stack, layers]) =>
    [...layers]
      .sort(([a], [b]) => a - b)
      .map(([layer, own]) => ({
        layer,
        ...(stacks.size > 1 ? { stack } : {}),
        ...(stack === main ? plans[layer] : {}),
        parameters: own.reduce((sum, { parameters }) => sum + parameters, 0),
        bytes: own.reduce((sum, { bytes }) => sum + bytes, 0),
        labels: labelsOf(own),
      })),
  );
}

function labelsOf(tensors: readonly InspectedTensor[]): string[] {
  const matrices = tensors.filter(({ shape }) => shape.length > 1);
  const bytes = new Map<string, number>();
  for (const tensor of matrices.length > 0 ? matrices : tensors)
    bytes.set(tensor.label, (bytes.get(tensor.label) ?? 0) + tensor.bytes);
  return [...bytes].sort((a, b) => b[1] - a[1]).map(([label]) => label);
}
