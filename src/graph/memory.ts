/**
 * How much memory a graph takes while it runs, from the sizes of its values and how long each is needed: what a plan
 * can say without running anything.
 */

import { byteLength } from '../base/tensor.ts';
import type { Dim, Graph, Value } from './graph.ts';

/** Operators that give their input's bytes under another shape. */
const views: ReadonlySet<string> = new Set(['Reshape', 'Squeeze', 'Unsqueeze', 'Identity']);

/**
 * The most bytes of values that nodes compute that are needed at once, outputs included; inputs, weights and constants
 * are not counted.
 * @param sizes of the names that stand in shapes ("batch")
 * @throws Error on a name that has no size
 */
export function peakBytes(graph: Graph, sizes: Readonly<Record<string, number>>): number {
  const origin = new Map<Value, Value>();
  const rootOf = (value: Value): Value => origin.get(value) ?? value;
  const lastUse = new Map<Value, number>();
  graph.nodes.forEach(({ op, inputs, outputs }, index) => {
    if (views.has(op) && inputs[0]) origin.set(outputs[0], rootOf(inputs[0]));
    for (const input of inputs) if (input) lastUse.set(rootOf(input), index);
  });
  for (const { value } of graph.outputs) lastUse.set(rootOf(value), graph.nodes.length);

  const dying = graph.nodes.map((): Value[] => []);
  for (const [value, index] of lastUse) dying[index]?.push(value);
  const live = new Map<Value, number>();
  let [now, most] = [0, 0];
  graph.nodes.forEach(({ op, outputs }, index) => {
    for (const value of outputs) {
      if (views.has(op) || !lastUse.has(value)) continue;
      const bytes = byteLength(
        value.dtype,
        value.shape.map((dim) => sizeOf(dim, sizes)),
      );
      live.set(value, bytes);
      now += bytes;
    }
    most = Math.max(most, now);
    for (const value of dying[index]) now -= live.get(value) ?? 0;
  });
  return most;
}

/** A size, or what sums and products of names come to: "past+time", "2*time". */
export function sizeOf(dim: Dim, sizes: Readonly<Record<string, number>>): number {
  if (typeof dim === 'number') return dim;
  const known = sizes[dim];
  if (known !== undefined) return known;
  const factor = (text: string): number => {
    const value = sizes[text] ?? Number(text);
    if (Number.isNaN(value)) throw new Error(`a size without a value: ${text}`);
    return value;
  };
  return dim
    .split('+')
    .reduce((sum, term) => sum + term.split('*').reduce((product, each) => product * factor(each), 1), 0);
}
