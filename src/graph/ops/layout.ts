/** Operators that move or repeat elements: reshapes, permutations, slices, concatenation. */

import type { LayoutName } from './names.ts';
import type { Dim, Shape, Value } from '../value.ts';
import { shapeTensor, zeros } from './constants.ts';
import type { OpDefinition } from './definition.ts';
import {
  axisOf,
  broadcast,
  constantInts,
  onnx,
  quotient,
  refuse,
  required,
  sameShape,
  sameType,
  sum,
} from './definition.ts';
import {
  concat,
  identity,
  reshape,
  split,
  squeeze,
  sumTo,
  toEnd,
  transpose,
  unsqueeze,
} from './functions.ts';

const sliceGradient: OpDefinition['gradient'] = ({ inputs }, [g]) => {
  if (!g) return [];
  const [x, starts, ends, axes] = inputs as readonly Value[];
  const [start] =
    constantInts(starts) ?? refuse('gradient of Slice', 'start is known only at run time', inputs);
  const [end] = constantInts(ends) ?? refuse('gradient of Slice', 'end is known only at run time', inputs);
  const [axis] = constantInts(axes)!;
  const size = x.shape[axis];
  const from = start < 0 && typeof size === 'number' ? start + size : start;
  const to =
    end >= toEnd ? 0 : end < 0 ? -end : typeof size === 'number' ? Math.max(size - end, 0) : undefined;
  const room = (length: Dim) =>
    zeros(
      x.graph,
      x.dtype,
      x.shape.map((dim, i) => (i === axis ? length : dim)),
    );
  if (from < 0 || to === undefined) {
    return refuse(
      'gradient of Slice',
      'the cut off part has no known size',
      inputs,
      'a known size, or cuts from the ends',
    );
  }
  const parts = [...(from > 0 ? [room(from)] : []), g, ...(to > 0 ? [room(to)] : [])];
  return [identity(concat(parts, axis), x.shape)];
};

export const layout: Record<LayoutName, OpDefinition> = {
  Reshape: {
    onnx: onnx('Reshape'),
    infer: (inputs, _, declared) => {
      const [x, target] = required('Reshape', inputs, 2);
      const shape = declared ?? constantInts(target) ?? refuse('Reshape', 'target is not known', inputs);
      // Names that both sides have cancel; what is left must agree where it is a number.
      const factor = quotient('Reshape', x.shape, shape);
      if (typeof factor === 'number' && factor !== 1 && !shape.includes(0)) {
        refuse('Reshape', 'element counts differ', inputs, `as many elements as [${shape.join(', ')}]`);
      }
      return [{ dtype: x.dtype, shape }];
    },
    gradient: ({ inputs }, [g]) => [g && reshape(g, inputs[0]!.shape)],
  },
  Transpose: {
    onnx: onnx('Transpose'),
    infer: (inputs, attributes) => {
      const [x] = required('Transpose', inputs, 1);
      const perm = attributes.perm as readonly number[];
      if ([...perm].sort((a, b) => a - b).some((axis, i) => axis !== i) || perm.length !== x.shape.length) {
        refuse('Transpose', `[${perm}] is no permutation of the axes`, inputs);
      }
      return [{ dtype: x.dtype, shape: perm.map((axis) => x.shape[axis]) }];
    },
    gradient: ({ attributes }, [g]) => {
      const perm = attributes.perm as readonly number[];
      return [
        g &&
          transpose(
            g,
            perm.map((_, i) => perm.indexOf(i)),
          ),
      ];
    },
  },
  Slice: {
    onnx: onnx('Slice'),
    infer: (inputs, _, declared) => {
      const [x] = required('Slice', inputs, 4);
      if (!declared || declared.length !== x.shape.length)
        refuse('Slice', 'the resulting shape must be given', inputs);
      return [{ dtype: x.dtype, shape: declared }];
    },
    gradient: sliceGradient,
  },
  Concat: {
    onnx: onnx('Concat'),
    infer: (inputs, attributes) => {
      const [first] = required('Concat', inputs, inputs.length);
      const axis = axisOf('Concat', attributes.axis as number, first.shape.length);
      const others = (shape: Shape) => shape.filter((_, i) => i !== axis);
      for (const input of inputs) {
        if (!sameShape(others(input!.shape), others(first.shape)))
          refuse('Concat', 'other axes differ', inputs);
      }
      const size = inputs.map((input) => input!.shape[axis]).reduce(sum);
      return [
        { dtype: sameType('Concat', inputs), shape: first.shape.map((dim, i) => (i === axis ? size : dim)) },
      ];
    },
    gradient: ({ inputs, attributes }, [g]) => {
      if (!g) return [];
      const axis = axisOf('Concat', attributes.axis as number, g.shape.length);
      const sizes = inputs.map((input) => input!.shape[axis]);
      if (sizes.every((size) => typeof size === 'number')) return split(g, sizes, axis);
      const lengths = sizes.map((size) => shapeTensor(g.graph, [size]));
      return g.graph.add('Split', [g, concat(lengths, 0)], { axis, sizes: sizes.join() });
    },
  },
  Split: {
    onnx: onnx('Split'),
    hints: ['sizes'],
    infer: (inputs, attributes) => {
      const [x, lengths] = required('Split', inputs, 2);
      const axis = axisOf('Split', attributes.axis as number, x.shape.length);
      const sizes: Shape =
        constantInts(lengths) ??
        (attributes.sizes as string | undefined)
          ?.split(',')
          .map((size) => (/^\d+$/.test(size) ? Number(size) : size)) ??
        refuse('Split', 'sizes are not constant', inputs);
      const known = sizes.every((size) => typeof size === 'number');
      if (known && sizes.reduce<Dim>(sum, 0) !== x.shape[axis])
        refuse('Split', `sizes ${sizes} do not fill the axis`, inputs);
      return sizes.map((size) => ({
        dtype: x.dtype,
        shape: x.shape.map((dim, i) => (i === axis ? size : dim)),
      }));
    },
    gradient: ({ inputs, outputs, attributes }, gs) => {
      if (gs.every((g) => !g)) return [];
      const parts = outputs.map((output, i) => gs[i] ?? zeros(output.graph, output.dtype, output.shape));
      return [identity(concat(parts, attributes.axis as number), inputs[0]!.shape)];
    },
  },
  Expand: {
    onnx: onnx('Expand'),
    infer: (inputs, _, declared) => {
      const [x, target] = required('Expand', inputs, 2);
      const shape = declared ?? constantInts(target) ?? refuse('Expand', 'target is not known', inputs);
      return [{ dtype: x.dtype, shape: broadcast('Expand', x.shape, shape) }];
    },
    gradient: ({ inputs }, [g]) => [g && sumTo(g, inputs[0]!.shape)],
  },
  Unsqueeze: {
    onnx: onnx('Unsqueeze'),
    infer: (inputs) => {
      const [x, axes] = required('Unsqueeze', inputs, 2);
      const list = constantInts(axes) ?? refuse('Unsqueeze', 'axes are not constant', inputs);
      const rank = x.shape.length + list.length;
      const at = new Set(list.map((axis) => axisOf('Unsqueeze', axis, rank)));
      const rest = [...x.shape];
      return [
        { dtype: x.dtype, shape: Array.from({ length: rank }, (__, i) => (at.has(i) ? 1 : rest.shift()!)) },
      ];
    },
    gradient: ({ inputs }, [g]) => [g && squeeze(g, constantInts(inputs[1])!)],
  },
  Squeeze: {
    onnx: onnx('Squeeze'),
    infer: (inputs) => {
      const [x, axes] = required('Squeeze', inputs, 2);
      const list = constantInts(axes) ?? refuse('Squeeze', 'axes are not constant', inputs);
      const at = new Set(list.map((axis) => axisOf('Squeeze', axis, x.shape.length)));
      for (const axis of at) if (x.shape[axis] !== 1) refuse('Squeeze', `axis ${axis} is not 1`, inputs);
      return [{ dtype: x.dtype, shape: x.shape.filter((__, i) => !at.has(i)) }];
    },
    gradient: ({ inputs }, [g]) => {
      const axes = constantInts(inputs[1])!.map((axis) => axisOf('Squeeze', axis, inputs[0]!.shape.length));
      return [g && unsqueeze(g, axes)];
    },
  },
  Shape: {
    onnx: onnx('Shape'),
    infer: (inputs, attributes) => {
      required('Shape', inputs, 1);
      return [{ dtype: 'int64', shape: [(attributes.end as number) - (attributes.start as number)] }];
    },
    gradient: 'Shape gives integers',
  },
  Range: {
    onnx: onnx('Range'),
    infer: (inputs, _, declared) => {
      required('Range', inputs, 3);
      if (declared?.length !== 1) refuse('Range', 'the resulting size must be given', inputs);
      return [{ dtype: sameType('Range', inputs), shape: declared }];
    },
    gradient: 'Range depends on its ends in steps',
  },
};
