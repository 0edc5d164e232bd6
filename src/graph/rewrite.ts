/** Copies a graph while another set of nodes takes the place of some: how devices get operators that suit them. */

import type { Node, Value } from './graph.ts';
import { Graph } from './graph.ts';

/** The outputs that take the place of a node's, or undefined where the node is copied as it is. */
export type Rewrite = (
  copy: Graph,
  node: Node,
  inputs: readonly (Value | undefined)[],
) => readonly Value[] | undefined;

/** A graph with the same inputs, weights and outputs. */
export function rewritten(graph: Graph, rewrite: Rewrite): Graph {
  const copy = new Graph(graph.weightsAs);
  const values = new Map<Value, Value>();
  const constants = new Map<string, Value>();
  for (const input of graph.inputs) {
    const weight = graph.weights.get(input.name);
    const value = weight
      ? copy.weight(input.name, weight.stored)
      : copy.input(input.name, input.dtype, input.shape);
    values.set(input, value);
  }
  const find = (value: Value | undefined): Value | undefined => {
    if (!value) return undefined;
    const known = values.get(value) ?? constants.get(value.name);
    if (known) return known;
    const stored = graph.initializers.get(value.name)!;
    const made = graph.weights.has(value.name) ? copy.weight(value.name, stored) : copy.constant(stored);
    constants.set(value.name, made);
    return made;
  };
  for (const node of graph.nodes) {
    const inputs = node.inputs.map(find);
    const outputs = rewrite(copy, node, inputs) ?? copied(copy, node, inputs);
    for (const [i, output] of node.outputs.entries()) values.set(output, outputs[i]);
  }
  for (const { name, value } of graph.outputs) copy.output(name, find(value)!);
  return copy;
}

function copied(copy: Graph, node: Node, inputs: readonly (Value | undefined)[]): readonly Value[] {
  return copy.add(node.op, inputs, node.attributes, node.outputs[0].shape);
}
