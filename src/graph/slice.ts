/** Part of a graph as a graph of its own: what lies between values that are given and values that are wanted. */

import type { Node, Value } from './graph.ts';
import { Graph } from './graph.ts';
import { copied, finder } from './rewrite.ts';

export interface NamedValue {
  readonly name: string;
  readonly value: Value;
}

/** @param given become inputs; inputs, weights and constants that the outputs need besides come along */
export function sliced(graph: Graph, given: readonly NamedValue[], outputs: readonly NamedValue[]): Graph {
  const copy = new Graph(graph.weightsAs);
  const values = new Map(
    given.map(({ name, value }) => [value, copy.input(name, value.dtype, value.shape)] as const),
  );
  const find = finder(graph, copy, values);
  const needed = neededNodes(graph, new Set(values.keys()), outputs);
  for (const node of graph.nodes.filter((each) => needed.has(each))) {
    const inputs = node.inputs.map((input) => input && find(input));
    const made = copied(copy, node, inputs);
    for (const [i, output] of node.outputs.entries()) if (!values.has(output)) values.set(output, made[i]);
  }
  for (const { name, value } of outputs) copy.output(name, find(value));
  return copy;
}

function neededNodes(
  { nodes }: Graph,
  given: ReadonlySet<Value>,
  outputs: readonly NamedValue[],
): ReadonlySet<Node> {
  const wanted = new Set(outputs.map(({ value }) => value));
  const needed = new Set<Node>();
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some((output) => wanted.has(output) && !given.has(output))) continue;
    needed.add(node);
    for (const input of node.inputs) if (input) wanted.add(input);
  }
  return needed;
}
