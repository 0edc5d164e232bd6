/** Small tensors that are part of a computation, and sizes that are known only when it runs. */

import { LapidaryError } from '../../base/errors.ts';
import { halfCode } from '../../base/half.ts';
import type { DType, Stored } from '../../base/tensor.ts';
import { elementCount, stored } from '../../base/tensor.ts';
import type { Dim, Graph, Shape, Value } from '../value.ts';

/** A stored tensor of numbers in any of the element types that hold one number in whole bytes. */
export function storedNumbers(dtype: DType, shape: readonly number[], values: ArrayLike<number>): Stored {
  const list = Array.from(values);
  switch (dtype) {
    case 'float32':
      return stored(dtype, shape, Float32Array.from(list));
    case 'float64':
      return stored(dtype, shape, Float64Array.from(list));
    case 'float16':
      return stored(dtype, shape, Uint16Array.from(list, halfCode));
    case 'int64':
      return stored(
        dtype,
        shape,
        BigInt64Array.from(list, (value) => BigInt(value)),
      );
    case 'int32':
      return stored(dtype, shape, Int32Array.from(list));
    case 'int16':
      return stored(dtype, shape, Int16Array.from(list));
    case 'int8':
      return stored(dtype, shape, Int8Array.from(list));
    case 'uint8':
    case 'bool':
      return stored(dtype, shape, Uint8Array.from(list));
    default:
      throw new LapidaryError({ what: `a constant of type ${dtype} cannot be written as numbers` });
  }
}

/** Equal small constants of a graph are one value. */
const pools = new WeakMap<Graph, Map<string, Value>>();

function pooled(graph: Graph, key: string, make: () => Value): Value {
  const pool = pools.get(graph) ?? new Map<string, Value>();
  pools.set(graph, pool);
  const value = pool.get(key) ?? make();
  pool.set(key, value);
  return value;
}

/** A rank-0 constant. */
export function scalar(graph: Graph, value: number, dtype: DType = 'float32'): Value {
  return pooled(graph, `${dtype} ${Object.is(value, -0) ? '-0' : value}`, () =>
    graph.constant(storedNumbers(dtype, [], [value]), 'scalar'),
  );
}

/** A constant of int64 [values.length]. */
export function ints(graph: Graph, values: readonly number[]): Value {
  return pooled(graph, `ints ${values.join()}`, () =>
    graph.constant(storedNumbers('int64', [values.length], values), 'ints'),
  );
}

/** A constant vector, or a tensor of `shape`. */
export function floats(
  graph: Graph,
  values: ArrayLike<number>,
  shape: readonly number[] = [values.length],
  dtype: DType = 'float32',
): Value {
  if (elementCount(shape) !== values.length) {
    throw new LapidaryError({ what: `${values.length} values do not fill [${shape.join(', ')}]` });
  }
  return graph.constant(storedNumbers(dtype, shape, values), 'floats');
}

/** The size that a name stands for, int64 [1]: read off any tensor of the graph that has it. */
export function sizeOf(graph: Graph, name: string): Value {
  return pooled(graph, `size ${name}`, () => {
    const holder = holderOf(graph, name);
    if (!holder) throw new LapidaryError({ what: `no tensor of the graph has a size "${name}"` });
    const axis = holder.shape.indexOf(name);
    return graph.add('Shape', [holder], { start: axis, end: axis + 1 })[0];
  });
}

function holderOf(graph: Graph, name: string): Value | undefined {
  for (const input of graph.inputs) if (input.shape.includes(name)) return input;
  for (const node of graph.nodes) {
    for (const output of node.outputs) if (output.shape.includes(name)) return output;
  }
  return undefined;
}

/** A shape as int64 [rank]; a constant where all sizes are known. */
export function shapeTensor(graph: Graph, shape: Shape): Value {
  if (shape.every((dim) => typeof dim === 'number')) return ints(graph, shape as readonly number[]);
  const size = (dim: Dim) => (typeof dim === 'number' ? ints(graph, [dim]) : sizeOf(graph, dim));
  if (shape.length === 1) return size(shape[0]);
  return pooled(graph, `shape ${shape.join()}`, () => graph.add('Concat', shape.map(size), { axis: 0 })[0]);
}

/** Zeros of a type and shape, made when the graph runs. */
export function zeros(graph: Graph, dtype: DType, shape: Shape): Value {
  return graph.add('Expand', [scalar(graph, 0, dtype), shapeTensor(graph, shape)], {}, shape)[0];
}
