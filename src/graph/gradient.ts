/**
 * Reverse-mode differentiation from graph to graph: the gradient of a graph is more nodes of the same graph, so it is
 * run, exported and optimized like any other.
 */

import { LapidaryError } from '../base/errors.ts';
import type { Graph, Node, Value } from './graph.ts';
import { customGradient } from './ops/custom.ts';
import { add, expand, scalar, table, zeros } from './ops.ts';

/**
 * Adds the nodes that compute d loss / d value for each of `wrt`.
 * @param loss a single number: [] or all sizes 1
 * @returns one value for each of `wrt`, of its type and shape; zeros where the loss does not depend on it
 * @throws LapidaryError where the path passes an operator that has no gradient, with its reason
 */
export function gradient(loss: Value, wrt: readonly Value[]): Value[] {
  if (loss.shape.some((dim) => dim !== 1)) {
    throw new LapidaryError({
      what: 'only a single number is differentiated',
      where: loss.name,
      expected: '[]',
      found: `[${loss.shape.join(', ')}]`,
      fix: 'sum it first',
    });
  }
  const { graph } = loss;
  const path = nodesBetween(graph, wrt);
  const sums = new Map<Value, Value>([[loss, expand(scalar(graph, 1, loss.dtype), loss.shape)]]);
  for (const node of path.reverse()) {
    const outputGradients = node.outputs.map((output) => sums.get(output));
    if (outputGradients.every((g) => !g)) continue;
    const { inputs, flows } = backward(node, outputGradients);
    for (const [i, input] of inputs.entries()) {
      const flow = flows[i];
      if (!input || !flow) continue;
      const sum = sums.get(input);
      sums.set(input, sum ? add(sum, flow) : flow);
    }
  }
  return wrt.map((value) => sums.get(value) ?? zeros(graph, value.dtype, value.shape));
}

/** The nodes that depend on any of the values, in order. */
function nodesBetween(graph: Graph, wrt: readonly Value[]): Node[] {
  const reached = new Set<Value | undefined>(wrt);
  return graph.nodes.filter((node) => {
    const depends = node.inputs.some((input) => input && reached.has(input));
    if (depends) for (const output of node.outputs) reached.add(output);
    return depends;
  });
}

interface Flows {
  readonly inputs: readonly (Value | undefined)[];
  /** What each input gets. */
  readonly flows: readonly (Value | undefined)[];
}

function backward(node: Node, outputGradients: readonly (Value | undefined)[]): Flows {
  const custom = customGradient(node.outputs[0]);
  if (custom) return { inputs: custom.inputs, flows: custom.rule(outputGradients[0]!) };
  const rule = table[node.op].gradient;
  if (typeof rule === 'string') {
    throw new LapidaryError({ what: `${node.op} has no gradient`, where: node.outputs[0].name, found: rule });
  }
  return { inputs: node.inputs, flows: rule(node, outputGradients) };
}
