/** Sums, extremes and normalizations along axes. */

import type { ReduceName, Reduction } from './names.ts';
import type { Value } from '../value.ts';
import type { OpDefinition } from './definition.ts';
import { axisOf, constantInts, onnx, product, refuse, required } from './definition.ts';
import {
  cast,
  div,
  equal,
  exp,
  expand,
  mul,
  reduceSum,
  scale,
  shapeOf,
  sub,
  unsqueeze,
} from './functions.ts';

function reduced(op: string, x: Value, axes: readonly number[], keep: boolean) {
  const at = new Set(axes.map((axis) => axisOf(op, axis, x.shape.length)));
  return keep ? x.shape.map((dim, i) => (at.has(i) ? 1 : dim)) : x.shape.filter((_, i) => !at.has(i));
}

/** A reduction's gradient with the reduced axes back as 1. */
function restored(g: Value, axes: readonly number[], keepdims: unknown, rank: number): Value {
  return keepdims === 1
    ? g
    : unsqueeze(
        g,
        axes.map((axis) => axisOf('reduction', axis, rank)),
      );
}

function reduce(
  type: Reduction,
  rule: (g: Value, x: Value, y: Value, axes: readonly number[]) => Value,
): OpDefinition {
  return {
    onnx: onnx(type),
    infer: (inputs, attributes) => {
      const [x, axes] = required(type, inputs, 2);
      const list = constantInts(axes) ?? refuse(type, 'axes are not constant', inputs);
      return [{ dtype: x.dtype, shape: reduced(type, x, list, attributes.keepdims === 1) }];
    },
    gradient: ({ inputs, outputs, attributes }, [g]) => {
      if (!g) return [];
      const x = inputs[0]!;
      const axes = constantInts(inputs[1])!;
      const back = (value: Value) => restored(value, axes, attributes.keepdims, x.shape.length);
      return [rule(back(g), x, back(outputs[0]), axes)];
    },
  };
}

function along(
  type: 'Softmax' | 'LogSoftmax',
  rule: (g: Value, y: Value, axis: number) => Value,
): OpDefinition {
  return {
    onnx: onnx(type),
    infer: (inputs, attributes) => {
      const [x] = required(type, inputs, 1);
      axisOf(type, attributes.axis as number, x.shape.length);
      return [{ dtype: x.dtype, shape: x.shape }];
    },
    gradient: ({ outputs, attributes }, [g]) => [g && rule(g, outputs[0], attributes.axis as number)],
  };
}

function meanGradient(g: Value, x: Value, _: Value, axes: readonly number[]): Value {
  const count = product(axes.map((axis) => x.shape[axisOf('ReduceMean', axis, x.shape.length)]));
  if (typeof count === 'number') return expand(scale(g, 1 / count), x.shape);
  let divisor: Value | undefined;
  for (const axis of axes) {
    const at = axisOf('ReduceMean', axis, x.shape.length);
    const size = cast(shapeOf(x, at, at + 1), x.dtype);
    divisor = divisor ? mul(divisor, size) : size;
  }
  return expand(div(g, divisor!), x.shape);
}

export const reductions: Record<ReduceName, OpDefinition> = {
  ReduceSum: reduce('ReduceSum', (g, x) => expand(g, x.shape)),
  ReduceMean: reduce('ReduceMean', meanGradient),
  // Elements that share the maximum share its gradient.
  ReduceMax: reduce('ReduceMax', (g, x, y, axes) => {
    const chosen = cast(equal(x, y), x.dtype);
    return mul(chosen, div(g, reduceSum(chosen, axes, true)));
  }),
  Softmax: along('Softmax', (g, y, axis) => mul(y, sub(g, reduceSum(mul(g, y), [axis], true)))),
  LogSoftmax: along('LogSoftmax', (g, y, axis) => sub(g, mul(exp(y), reduceSum(g, [axis], true)))),
  ArgMax: {
    onnx: onnx('ArgMax'),
    infer: (inputs, attributes) => {
      const [x] = required('ArgMax', inputs, 1);
      return [
        {
          dtype: 'int64',
          shape: reduced('ArgMax', x, [attributes.axis as number], attributes.keepdims === 1),
        },
      ];
    },
    gradient: 'ArgMax gives indices',
  },
  TopK: {
    onnx: onnx('TopK'),
    infer: (inputs, attributes) => {
      const [x, count] = required('TopK', inputs, 2);
      const [k] = constantInts(count) ?? refuse('TopK', 'k is not constant', inputs);
      const axis = axisOf('TopK', attributes.axis as number, x.shape.length);
      if (typeof x.shape[axis] === 'number' && x.shape[axis] < k)
        refuse('TopK', `fewer than ${k} elements`, inputs);
      const shape = x.shape.map((dim, i) => (i === axis ? k : dim));
      return [
        { dtype: x.dtype, shape },
        { dtype: 'int64', shape },
      ];
    },
    gradient: 'TopK is not differentiated: take its indices and gather',
  },
  CumSum: {
    onnx: onnx('CumSum'),
    infer: (inputs) => {
      const [x] = required('CumSum', inputs, 2);
      return [{ dtype: x.dtype, shape: x.shape }];
    },
    gradient: ({ inputs, attributes }, [g]) => [
      g?.graph.add('CumSum', [g, inputs[1]], { ...attributes, reverse: attributes.reverse === 1 ? 0 : 1 })[0],
    ],
  },
};
