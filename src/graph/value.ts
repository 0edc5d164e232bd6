/** What a graph is made of: values, nodes, shapes. Operators know these; the graph itself (graph.ts) knows the operators. */

import type { DType, Stored } from '../base/tensor.ts';
import type { OpName } from './ops/names.ts';

/** A known size, or the name of one that is known only when the graph runs ("batch_size"). */
export type Dim = number | string;
export type Shape = readonly Dim[];

export type Attribute = number | string | readonly number[] | { readonly float: number };
export type Attributes = Readonly<Record<string, Attribute>>;

/** A tensor that will exist when the graph runs. */
export interface Value {
  readonly graph: Graph;
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
}

export interface Node {
  readonly op: OpName;
  readonly inputs: readonly (Value | undefined)[];
  readonly outputs: readonly Value[];
  readonly attributes: Attributes;
}

export interface TypedShape {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** A graph as operators see it; the class in graph.ts. */
export interface Graph {
  readonly nodes: Node[];
  readonly inputs: Value[];
  readonly outputs: { readonly name: string; readonly value: Value }[];
  readonly initializers: Map<string, Stored>;
  readonly weights: Map<string, { readonly value: Value; readonly stored: Stored }>;
  readonly weightsAs: 'initializers' | 'inputs';
  readonly names: Set<string>;
  input(name: string, dtype: DType, shape: Shape): Value;
  weight(name: string, stored: Stored): Value;
  constant(stored: Stored, hint?: string): Value;
  add(
    op: OpName,
    inputs: readonly (Value | undefined)[],
    attributes?: Attributes,
    declared?: Shape,
  ): readonly Value[];
  output(name: string, value: Value): void;
}
