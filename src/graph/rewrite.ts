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
  const find = finder(graph, copy, values);
  for (const input of graph.inputs) find(input);
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((input) => input && find(input));
    const outputs = rewrite(copy, node, inputs) ?? copied(copy, node, inputs);
    for (const [i, output] of node.outputs.entries()) values.set(output, outputs[i]);
  }
  for (const { name, value } of graph.outputs) copy.output(name, find(value));
  return copy;
}

/**
 * Finds values of a graph in its copy, and takes inputs, weights and constants over when they are first asked for.
 * @param values what is known, and will be
 */
export function finder(graph: Graph, copy: Graph, values: Map<Value, Value>): (value: Value) => Value {
  return (value) => {
    const known = values.get(value);
    if (known) return known;
    const { name, dtype, shape } = value;
    const [weight, constant] = [graph.weights.get(name), graph.initializers.get(name)];
    const made = weight
      ? copy.weight(name, weight.stored)
      : constant
        ? copy.constant(constant)
        : copy.input(name, dtype, shape);
    values.set(value, made);
    return made;
  };
}

export function copied(copy: Graph, node: Node, inputs: readonly (Value | undefined)[]): readonly Value[] {
  return copy.add(node.op, inputs, node.attributes, node.outputs[0].shape);
}
