/**
 * The graph that everything computes with: values, nodes and weights in the order they were added. A model is a
 * function that adds nodes; the export writes them, training differentiates them, a session runs them.
 * Which operators exist, what shapes they give and what their gradients are stands in ops.ts.
 */

import type { DType, Stored } from '../base/tensor.ts';
import { table } from './ops.ts';
import type { OpName } from './ops/names.ts';
import type { Attributes, Node, Shape, Value } from './value.ts';

export type { Attribute, Attributes, Dim, Node, Shape, TypedShape, Value } from './value.ts';

/**
 * @param weights where `weight` puts a stored tensor: inside the graph ("initializers": one self-contained model),
 *   or among its inputs ("inputs": one session serves every block of the same shape, and weights are not copied).
 */
export class Graph {
  readonly nodes: Node[] = [];
  readonly inputs: Value[] = [];
  readonly outputs: { readonly name: string; readonly value: Value }[] = [];
  /** Tensors inside the graph, by value name. */
  readonly initializers = new Map<string, Stored>();
  /** Tensors to feed under these input names, where weights are inputs. */
  readonly weights = new Map<string, { readonly value: Value; readonly stored: Stored }>();
  readonly weightsAs: 'initializers' | 'inputs';
  /** Of all values. */
  readonly names = new Set<string>();

  constructor(weightsAs: 'initializers' | 'inputs' = 'initializers') {
    this.weightsAs = weightsAs;
  }

  input(name: string, dtype: DType, shape: Shape): Value {
    const value = valueOf(this, name, dtype, shape);
    this.inputs.push(value);
    return value;
  }

  /** A stored tensor under a name that is unique in the graph; the same name and tensor give the same value. */
  weight(name: string, stored: Stored): Value {
    const known = this.weights.get(name);
    if (known?.stored === stored) return known.value;
    const value = valueOf(this, name, stored.dtype, stored.shape);
    this.weights.set(name, { value, stored });
    if (this.weightsAs === 'inputs') this.inputs.push(value);
    else this.initializers.set(name, stored);
    return value;
  }

  /** A small tensor that is part of the computation itself (an axis, a shape, an epsilon): always an initializer. */
  constant(stored: Stored, hint = 'constant'): Value {
    const value = valueOf(this, fresh(this, hint), stored.dtype, stored.shape);
    this.initializers.set(value.name, stored);
    return value;
  }

  /**
   * Adds a node; its outputs' types and shapes come from the operator's rule, which throws on wrong inputs.
   * @param declared the output's shape, for operators whose shape is data (Reshape, Slice, Range).
   */
  add(
    op: OpName,
    inputs: readonly (Value | undefined)[],
    attributes: Attributes = {},
    declared?: Shape,
  ): readonly Value[] {
    for (const input of inputs) {
      if (input && input.graph !== this)
        throw new Error(`${op}: input ${input.name} belongs to another graph`);
    }
    const outputs = table[op]
      .infer(inputs, attributes, declared)
      .map(({ dtype, shape }) => valueOf(this, fresh(this, op), dtype, shape));
    this.nodes.push({ op, inputs, outputs, attributes });
    return outputs;
  }

  /** Makes a value visible to whoever runs the graph. */
  output(name: string, value: Value): void {
    if (this.outputs.some((output) => output.name === name)) throw new Error(`two outputs named ${name}`);
    this.outputs.push({ name, value });
  }
}

function fresh({ names }: Graph, hint: string): string {
  let count = names.size;
  while (names.has(`${hint}_${count}`)) count++;
  return `${hint}_${count}`;
}

function valueOf(graph: Graph, name: string, dtype: DType, shape: Shape): Value {
  if (graph.names.has(name)) throw new Error(`two values named ${name} in one graph`);
  graph.names.add(name);
  return { graph, name, dtype, shape };
}
