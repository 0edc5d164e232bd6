/** Operators on single elements, with NumPy broadcasting. */

import type { Binary, Comparison, ElementwiseName, Step, Unary } from './names.ts';
import type { DType } from '../../base/tensor.ts';
import type { Attributes, Value } from '../value.ts';
import { scalar } from './constants.ts';
import type { GradientRule, OpDefinition } from './definition.ts';
import { broadcast, onnx, refuse, required, sameType } from './definition.ts';
import {
  cast,
  cos,
  div,
  equal,
  exp,
  greater,
  greaterOrEqual,
  identity,
  less,
  lessOrEqual,
  log,
  mul,
  neg,
  pow,
  sin,
  sub,
  sumTo,
  where,
} from './functions.ts';

function unary(type: Unary, rule: (g: Value, x: Value, y: Value) => Value): OpDefinition {
  return {
    onnx: onnx(type),
    infer: (inputs) => {
      const [x] = required(type, inputs, 1);
      return [{ dtype: x.dtype, shape: x.shape }];
    },
    gradient: ({ inputs, outputs }, [g]) => [g && rule(g, inputs[0]!, outputs[0])],
  };
}

function step(type: Step): OpDefinition {
  return {
    onnx: onnx(type),
    infer: (inputs) => {
      const [x] = required(type, inputs, 1);
      return [{ dtype: x.dtype, shape: x.shape }];
    },
    gradient: `${type} is flat: give what is made of it a gradient of its own (withGradient)`,
  };
}

function binary(
  type: Binary,
  rule: (g: Value, a: Value, b: Value, y: Value) => readonly [toA: Value, toB: Value],
): OpDefinition {
  return {
    onnx: onnx(type),
    infer: (inputs) => {
      const [a, b] = required(type, inputs, 2);
      return [{ dtype: sameType(type, inputs), shape: broadcast(type, a.shape, b.shape) }];
    },
    gradient: ({ inputs, outputs }, [g]) => {
      if (!g) return [];
      const [a, b] = inputs as readonly Value[];
      const [toA, toB] = rule(g, a, b, outputs[0]);
      return [sumTo(toA, a.shape), sumTo(toB, b.shape)];
    },
  };
}

function compare(type: Comparison | 'And' | 'Or'): OpDefinition {
  return {
    onnx: onnx(type),
    infer: (inputs) => {
      const [a, b] = required(type, inputs, 2);
      sameType(type, inputs);
      return [{ dtype: 'bool', shape: broadcast(type, a.shape, b.shape) }];
    },
    gradient: `${type} gives truth values`,
  };
}

const whereGradient: GradientRule = ({ inputs }, [g]) => {
  if (!g) return [];
  const [condition, a, b] = inputs as readonly Value[];
  const zero = scalar(g.graph, 0, g.dtype);
  return [undefined, sumTo(where(condition, g, zero), a.shape), sumTo(where(condition, zero, g), b.shape)];
};

const number = (like: Value, value: number): Value => scalar(like.graph, value, like.dtype);
/** g where a is the one that Max or Min took; both get it where they are equal, halved. */
const share = (g: Value, chosen: Value, tie: Value): Value =>
  mul(g, sub(cast(chosen, g.dtype), mul(cast(tie, g.dtype), number(g, 0.5))));

export const elementwise: Record<ElementwiseName, OpDefinition> = {
  Neg: unary('Neg', (g) => neg(g)),
  Exp: unary('Exp', (g, _, y) => mul(g, y)),
  Log: unary('Log', (g, x) => div(g, x)),
  Sqrt: unary('Sqrt', (g, _, y) => div(mul(g, number(g, 0.5)), y)),
  Reciprocal: unary('Reciprocal', (g, _, y) => neg(mul(g, mul(y, y)))),
  Abs: unary('Abs', (g, x) =>
    mul(g, sub(cast(greater(x, number(x, 0)), g.dtype), cast(less(x, number(x, 0)), g.dtype))),
  ),
  Sigmoid: unary('Sigmoid', (g, _, y) => mul(mul(g, y), sub(number(y, 1), y))),
  Tanh: unary('Tanh', (g, _, y) => mul(g, sub(number(y, 1), mul(y, y)))),
  Erf: unary('Erf', (g, x) => mul(mul(g, number(g, 2 / Math.sqrt(Math.PI))), exp(neg(mul(x, x))))),
  Sin: unary('Sin', (g, x) => mul(g, cos(x))),
  Cos: unary('Cos', (g, x) => neg(mul(g, sin(x)))),
  Relu: unary('Relu', (g, x) => mul(g, cast(greater(x, number(x, 0)), g.dtype))),
  Floor: step('Floor'),
  Round: step('Round'),
  Add: binary('Add', (g) => [g, g]),
  Sub: binary('Sub', (g) => [g, neg(g)]),
  Mul: binary('Mul', (g, a, b) => [mul(g, b), mul(g, a)]),
  Div: binary('Div', (g, _, b, y) => [div(g, b), neg(div(mul(g, y), b))]),
  Pow: binary('Pow', (g, a, b, y) => [mul(mul(g, b), pow(a, sub(b, number(b, 1)))), mul(mul(g, y), log(a))]),
  Max: binary('Max', (g, a, b) => [
    share(g, greaterOrEqual(a, b), equal(a, b)),
    share(g, greaterOrEqual(b, a), equal(a, b)),
  ]),
  Min: binary('Min', (g, a, b) => [
    share(g, lessOrEqual(a, b), equal(a, b)),
    share(g, lessOrEqual(b, a), equal(a, b)),
  ]),
  Equal: compare('Equal'),
  Less: compare('Less'),
  Greater: compare('Greater'),
  LessOrEqual: compare('LessOrEqual'),
  GreaterOrEqual: compare('GreaterOrEqual'),
  And: compare('And'),
  Or: compare('Or'),
  Not: {
    onnx: onnx('Not'),
    infer: (inputs) => {
      const [x] = required('Not', inputs, 1);
      if (x.dtype !== 'bool') refuse('Not', 'input is not bool', inputs);
      return [{ dtype: 'bool', shape: x.shape }];
    },
    gradient: 'Not gives truth values',
  },
  Where: {
    onnx: onnx('Where'),
    infer: (inputs) => {
      const [condition, a, b] = required('Where', inputs, 3);
      if (condition.dtype !== 'bool') refuse('Where', 'condition is not bool', inputs);
      return [
        { dtype: sameType('Where', [a, b]), shape: broadcast('Where', condition.shape, a.shape, b.shape) },
      ];
    },
    gradient: whereGradient,
  },
  Cast: {
    onnx: onnx('Cast'),
    infer: (inputs, attributes: Attributes) => {
      const [x] = required('Cast', inputs, 1);
      return [{ dtype: attributes.to as DType, shape: x.shape }];
    },
    gradient: ({ inputs }, [g]) => {
      const { dtype } = inputs[0]!;
      return [g && (dtype.startsWith('float') || dtype === 'bfloat16') ? cast(g, dtype) : undefined];
    },
  },
  Identity: {
    onnx: onnx('Identity'),
    infer: (inputs, _, declared) => {
      const [x] = required('Identity', inputs, 1);
      if (declared && declared.length !== x.shape.length)
        refuse('Identity', `rank ${declared.length} declared`, inputs);
      return [{ dtype: x.dtype, shape: declared ?? x.shape }];
    },
    gradient: ({ inputs }, [g]) => [g && identity(g, inputs[0]!.shape)],
  },
};
