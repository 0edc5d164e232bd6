/** One training step as a graph: from a loss to the weights after it. */

import { gradient } from '../graph/gradient.ts';
import type { Graph, Value } from '../graph/graph.ts';
import type { AdamOptions } from './adam.ts';
import { adam, adamRates, globalNorm } from './adam.ts';

/** Names of a step's inputs and outputs; a parameter's three tensors have the same names on both sides but for `next/`. */
export const names = {
  loss: 'step/loss',
  norm: 'step/norm',
  state: (parameter: string) => [parameter, `${parameter}/first`, `${parameter}/second`] as const,
  next: (name: string) => `next/${name}`,
};

/**
 * Adds the gradient of every float32 weight of the loss's graph and AdamW's update to it. The graph then takes
 * the weights and their moments and gives the next ones, with "step/loss" and "step/norm" (of all gradients, before clipping).
 * Matrices decay, vectors do not.
 * @param loss [] in a graph whose weights are inputs.
 * @returns the parameters' names.
 */
export function trainingStep(loss: Value, options: AdamOptions): string[] {
  const { graph } = loss;
  const trained = [...graph.weights].filter(([, { value }]) => value.dtype === 'float32');
  const gradients = gradient(
    loss,
    trained.map(([, { value }]) => value),
  );
  const norm = globalNorm(gradients);
  const parameters = trained.map(([name, { value: weight }], i) => ({
    weight,
    gradient: gradients[i],
    ...moments(graph, name, weight),
    decays: weight.shape.length > 1,
  }));
  const updates = adam(parameters, norm, adamRates(graph), options);
  graph.output(names.loss, loss);
  graph.output(names.norm, norm);
  for (const [i, [name]] of trained.entries()) {
    const { weight, first, second } = updates[i];
    const next = names.state(name).map(names.next);
    for (const [k, value] of [weight, first, second].entries()) graph.output(next[k], value);
  }
  return trained.map(([name]) => name);
}

function moments(graph: Graph, name: string, weight: Value): { first: Value; second: Value } {
  const [, first, second] = names.state(name);
  return {
    first: graph.input(first, 'float32', weight.shape),
    second: graph.input(second, 'float32', weight.shape),
  };
}
