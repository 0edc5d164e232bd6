/**
 * Weights that a graph works out from what it stores: codes that are looked up in a table and multiplied by scales, sums
 * of such matrices, parts of them. Shapes follow from the nodes, as far as these use nothing but stored tensors.
 */

import type { Stored } from '../base/tensor.ts';
import { elementCount } from '../base/tensor.ts';
import type { OnnxModel, OnnxNode, OnnxTensor } from '../io/onnx/model.ts';

export interface ComputedWeight {
  readonly shape: readonly number[];
  /** What is stored for it: codes and scales, without the tables that codes are looked up in. */
  readonly tensors: readonly OnnxTensor[];
}

/** Gives what a value is worked out from; undefined where that is not stored tensors alone, or by other nodes. */
export function computedWeights(model: OnnxModel): (name: string) => ComputedWeight | undefined {
  const initializers = new Map(model.initializers.map((tensor) => [tensor.name, tensor]));
  const makers = new Map(
    model.nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)),
  );
  const known = new Map<string, ComputedWeight | undefined>();

  function find(name: string): ComputedWeight | undefined {
    if (known.has(name)) return known.get(name);
    const tensor = initializers.get(name);
    const maker = makers.get(name);
    const rule = maker && rules[maker.type];
    const found = tensor
      ? // A number alone is part of the formula.
        { shape: tensor.shape, tensors: tensor.shape.length === 0 ? [] : [tensor] }
      : rule?.(maker!, maker!.inputs.map(find), (at) => numbers(initializers.get(maker!.inputs[at])));
    known.set(name, found);
    return found;
  }
  return find;
}

type Rule = (
  node: OnnxNode,
  inputs: readonly (ComputedWeight | undefined)[],
  /** An input's values, where it is a stored tensor of int64. */
  values: (at: number) => readonly number[] | undefined,
) => ComputedWeight | undefined;

const same: Rule = (_, [x]) => x;

const elementwise: Rule = (_, [a, b]) => {
  if (!a || !b) return undefined;
  const rank = Math.max(a.shape.length, b.shape.length);
  const size = ({ shape }: ComputedWeight, axis: number) => shape[axis - rank + shape.length] ?? 1;
  const shape = Array.from({ length: rank }, (_, axis) => Math.max(size(a, axis), size(b, axis)));
  return { shape, tensors: [...new Set([...a.tensors, ...b.tensors])] };
};

const rules: Readonly<Record<string, Rule>> = {
  Cast: same,
  Identity: same,
  Add: elementwise,
  Sub: elementwise,
  Mul: elementwise,
  Div: elementwise,
  /** Of a table at stored codes, or the rows of what is stored. */
  Gather(_, [table, codes]) {
    if (!table || !codes) return undefined;
    const { tensors } = codes.tensors.length > 0 ? codes : table;
    return { shape: [...codes.shape, ...table.shape.slice(1)], tensors };
  },
  /** From 0 in ones. */
  Range(_, __, values) {
    const size = values(1)?.[0];
    return size === undefined ? undefined : { shape: [size], tensors: [] };
  },
  Expand(_, [x], values) {
    const shape = values(1);
    return x && shape && { shape, tensors: x.tensors };
  },
  Unsqueeze(_, [x], values) {
    const axes = values(1);
    if (!x || !axes) return undefined;
    const rank = x.shape.length + axes.length;
    const added = new Set(axes.map((axis) => (axis < 0 ? axis + rank : axis)));
    const rest = [...x.shape];
    const shape = Array.from({ length: rank }, (_, axis) => (added.has(axis) ? 1 : rest.shift()!));
    return { shape, tensors: x.tensors };
  },
  Reshape(_, [x], values) {
    const target = values(1);
    if (!x || !target) return undefined;
    const shape = target.map((size, axis) => (size === 0 ? x.shape[axis] : size));
    const rest = elementCount(x.shape) / elementCount(shape.filter((size) => size !== -1));
    return { shape: shape.map((size) => (size === -1 ? rest : size)), tensors: x.tensors };
  },
  /** From the start of one axis. */
  Slice(_, [x], values) {
    const [starts, ends, axes] = [values(1), values(2), values(3)];
    if (!x || starts?.join() !== '0' || ends?.length !== 1 || axes?.length !== 1) return undefined;
    const at = axes[0] < 0 ? axes[0] + x.shape.length : axes[0];
    const shape = x.shape.map((size, axis) => (axis === at ? Math.min(size, ends[0]) : size));
    return { shape, tensors: x.tensors };
  },
};

function numbers(tensor: OnnxTensor | undefined): readonly number[] | undefined {
  if (tensor?.dtype !== 'int64' || 'location' in tensor.data) return undefined;
  const bytes = new Uint8Array((tensor.data as Stored).bytes());
  return Array.from(new BigInt64Array(bytes.buffer), Number);
}
